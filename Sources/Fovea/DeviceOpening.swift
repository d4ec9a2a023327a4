import Foundation
import NeuralNetwork
import OpenCLRuntime
import Operations

extension Device {
  /// Opens the device that `selection` names, with all that makes it fast, as the commands `train` and `fovea` do:
  ///
  /// - the convolution kernels that `fovea tune` found fastest on it, unless the environment says `FOVEA_TUNING=off`;
  /// - its tensor cores, where it has some that were tried and compute rightly;
  /// - programs that were compiled before, where its driver keeps none, or as `FOVEA_PROGRAM_CACHE=on|off` says.
  ///
  /// What is not there, or cannot be used, is done without: the device then computes with the default kernels, and products in
  /// float32. ``init(_:profiling:)`` opens a device with none of this.
  ///
  /// - Parameters:
  ///   - selection: See ``DeviceSelection/pick(_:from:)``, and ``DeviceDescription/selector`` for a device of
  ///     ``DeviceDescription/all()``. Without one, the environment's `FOVEA_DEVICE` decides, then `auto`.
  ///   - precision: What will be computed on it. With `float32` tensor cores are not tried, which takes a moment; with `tf32`,
  ///     convolutions of `float32` round to it on tensor cores. By default they do not, and those of 16 bits use tensor cores.
  ///   - usesTuning: Whether to use what `fovea tune` measured. Other kernels give the same values up to rounding.
  ///   - cacheFolder: Where measurements are read, and programs kept; nil for none of both.
  ///   - profiling: Whether launches are timed from the start.
  ///   - note: Is told, in a line each, what of this cannot be used and why. By default standard error is.
  /// - Throws: `OpenCLError.noPlatform`, `noDevice` or `callFailed`.
  public static func open(
    _ selection: String? = nil, precision: Precision? = nil, usesTuning: Bool = true,
    cacheFolder: String? = UserCache.folder(), profiling: Bool = false,
    note: (String) -> Void = { FileHandle.standardError.write(Data(($0 + "\n").utf8)) }
  ) throws -> Device {
    var description = try DeviceSelection.pick(selection)
    description.equip(
      for: precision, usesTuning: usesTuning, cacheFolder: cacheFolder,
      environment: ProcessInfo.processInfo.environment, note: note)
    for asked in precision.map({ [$0] }) ?? [.float16, .bfloat16]
    where description.matrixOperand(for: asked.storage) == nil {
      if let line = description.productsLine(asked) { note(line) }
    }
    return try Device(description, profiling: profiling)
  }
}

extension DeviceDescription {
  /// Adds what was measured on the device, what its matrix units can do, and a place for its compiled programs.
  ///
  /// - Parameters:
  ///   - precision: of the models that it is for; nil for any but tf32.
  ///   - cacheFolder: nil for neither measurements nor a place.
  ///   - note: is told where measurements cannot be used.
  package mutating func equip(
    for precision: Precision?, usesTuning: Bool, cacheFolder: String?, environment: [String: String],
    note: (String) -> Void
  ) {
    let keepsPrograms =
      switch environment["FOVEA_PROGRAM_CACHE"] {
      case "on": true
      case "off": false
      default: ProgramCache.helps(self)
      }
    if keepsPrograms, let cacheFolder { programCache = ProgramCache(folder: cacheFolder + "/programs") }
    // Opening the device for it takes a moment that plain float32 need not pay.
    if precision != .float32 { probeMatrixUnits() }
    usesTF32 = precision == .tf32
    guard usesTuning, environment["FOVEA_TUNING"] != "off", let cacheFolder else { return }
    switch TuningDatabase.read(for: self, in: cacheFolder) {
    case .none: break
    case .usable(let database): convolutionTable = database.table
    case .unusable(let why): note("Default kernels: \(why); `fovea tune` measures again")
    }
  }

  /// How convolutions multiply: nil where the precision does not ask for anything that the device might lack, as plain
  /// float32, or 16 bits on devices that are not known for matrix units.
  package func productsLine(_ precision: Precision) -> String? {
    guard let asked = MatrixOperand(for: precision.storage, usesTF32: precision == .tf32),
      precision == .tf32 || matrixUnits != nil
    else { return nil }
    if matrixOperand(for: precision.storage) == asked {
      return "Products of \(asked.rawValue) on tensor cores, sums in float32"
    }
    let reason = matrixUnits.map { $0.problems[asked] ?? "they do not multiply \(asked.rawValue)" }
    return "Products in float32: "
      + (reason.map { "the tensor cores of \(name) are not used, \($0)" }
        ?? "\(name) has no tensor cores for \(asked.rawValue)")
  }
}
