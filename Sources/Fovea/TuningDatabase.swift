import Foundation
import OpenCLRuntime
import Operations

/// What `fovea tune` measured on a device: a JSON file in the user's cache folder, with all timings. It holds for one
/// driver and one version of the kernels.
package struct TuningDatabase: Codable {
  /// Whose measurements these are.
  package struct Subject: Codable, Equatable {
    var platform: String
    package var device: String
    var computeUnits: Int
    package var driver: String
    var opencl: String
    /// Fingerprint of the library's kernels.
    var kernels: String

    package init(_ device: DeviceDescription) {
      platform = device.platformName
      self.device = device.name
      computeUnits = device.computeUnits
      driver = device.driverVersion
      opencl = device.openCLVersion
      kernels = String(KernelSource.libraryFingerprint, radix: 16)
    }
  }

  package private(set) var subject: Subject
  /// When the last record was written, ISO 8601.
  package private(set) var date: String
  package private(set) var records: [TuningRecord] = []

  /// Without a record.
  package init(for device: DeviceDescription) {
    subject = Subject(device)
    date = Self.now
  }

  private static var now: String { Date.now.formatted(.iso8601) }

  /// Adds a record in the place of an earlier one over the same convolutions.
  package mutating func add(_ record: TuningRecord) {
    records.removeAll {
      $0.pass == record.pass && $0.dtype == record.dtype && $0.operand == record.operand && $0.members == record.members
        && $0.standard == record.standard
    }
    records.append(record)
    date = Self.now
  }

  /// The choices; later records count where convolutions occur in several. What stayed with the standard is left out,
  /// because that depends on the batch.
  package var table: ConvolutionTable {
    var table = ConvolutionTable(date: date)
    for record in records {
      for member in record.members {
        table[record.pass, member.convolution, record.dtype, record.operand] =
          record.chosen == record.standard ? nil : record.chosen
      }
    }
    return table
  }

  // MARK: - Its file

  /// What there is for a device.
  package enum Finding {
    case none
    case usable(TuningDatabase)
    /// It is there, but damaged or of another driver or version, as the text says.
    case unusable(String)
  }

  /// The file's name in the cache folder: of the device, whatever its driver.
  package static func name(for device: DeviceDescription) -> String {
    let identity = "\(device.platformName)\n\(device.name)\n\(device.computeUnits)"
    return UserCache.name("tuning", for: identity) + ".json"
  }

  /// Reads the file for a device.
  package static func read(for device: DeviceDescription, in folder: String = UserCache.folder()) -> Finding {
    let name = name(for: device)
    guard let text = UserCache.text(of: name, in: folder) else { return .none }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let database = try? decoder.decode(TuningDatabase.self, from: Data(text.utf8)) else {
      return .unusable("\(folder)/\(name) is damaged")
    }
    let now = Subject(device)
    if database.subject.kernels != now.kernels {
      return .unusable("\(folder)/\(name) was measured with other kernels than this version's")
    }
    if database.subject != now {
      return .unusable(
        "\(folder)/\(name) was measured with driver \(database.subject.driver), this is \(device.driverVersion)")
    }
    return .usable(database)
  }
}
