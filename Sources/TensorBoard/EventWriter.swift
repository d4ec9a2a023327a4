import Foundation
import NeuralNetwork
import SwiftProtobuf

/// Adds to an event file, which TensorBoard shows while it grows. Each call is one record; a kill costs at most the one
/// being written, which TensorBoard passes over.
public final class EventWriter {
  /// The file that is written.
  public let path: String
  private let file: FileHandle

  /// Starts a new event file in `folder`, which is created where it is missing.
  ///
  /// - Parameter step: steps that the run has done before. TensorBoard forgets what earlier files of the folder say of
  ///   later ones, for these will be done again.
  public init(folder: String, after step: Int = 0) throws {
    let manager = FileManager.default
    do {
      try manager.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch { throw FileError("create", folder, reason: error.localizedDescription) }
    let now = Date().timeIntervalSince1970
    let process = ProcessInfo.processInfo
    // TensorBoard reads the files of a folder in the order of their names, so the time comes first.
    let name = String(
      format: "events.out.tfevents.%010d.%@.%d.%06d", Int(now), process.hostName, process.processIdentifier,
      Int(now.truncatingRemainder(dividingBy: 1) * 1e6))
    path = folder + "/" + name
    guard manager.createFile(atPath: path, contents: nil), let file = FileHandle(forWritingAtPath: path) else {
      throw FileError("write", path)
    }
    self.file = file
    try write(step: 0) { $0.fileVersion = "brain.Event:2" }
    if step > 0 {
      try write(step: step + 1) { $0.sessionLog = .with { $0.status = .start } }
    }
  }

  deinit { try? file.close() }

  /// Writes numbers of a step. What is not finite is written as it is; TensorBoard marks it.
  public func write(scalars: [(tag: String, value: Double)], step: Int) throws {
    try write(
      scalars.map { scalar in
        .with {
          $0.tag = scalar.tag
          $0.simpleValue = Float(scalar.value)
        }
      }, step: step)
  }

  /// Writes an encoded picture: PNG, JPEG or GIF.
  public func write(image: [UInt8], height: Int, width: Int, tag: String, step: Int) throws {
    let picture = Tensorboard_Summary.Image.with {
      ($0.height, $0.width, $0.colorspace) = (Int32(height), Int32(width), 3)
      $0.encodedImageString = Data(image)
    }
    try write(
      [
        .with {
          $0.tag = tag
          $0.image = picture
        }
      ], step: step)
  }

  /// Writes histograms of a step.
  public func write(histograms: [(tag: String, histogram: Histogram)], step: Int) throws {
    try write(
      histograms.map { entry in
        .with {
          $0.tag = entry.tag
          $0.histo = entry.histogram.message
        }
      }, step: step)
  }

  private func write(_ values: [Tensorboard_Summary.Value], step: Int) throws {
    try write(step: step) { $0.summary = .with { $0.value = values } }
  }

  private func write(step: Int, _ fill: (inout Tensorboard_Event) -> Void) throws {
    var event = Tensorboard_Event()
    event.wallTime = Date().timeIntervalSince1970
    event.step = Int64(step)
    fill(&event)
    let bytes: [UInt8] = try event.serializedBytes()
    do {
      try file.write(contentsOf: Data(TFRecord.frame(bytes)))
    } catch { throw FileError("write", path, reason: error.localizedDescription) }
  }
}
