import Foundation
import Fovea
import Operations

/// Which kernels a run uses, as its checkpoints keep it: other kernels give other bits, and `fovea tune` may choose others
/// while a run is stopped.
package struct KernelChoice: Codable, Equatable {
  private var device: TuningDatabase.Subject
  /// Nil for the default kernels.
  private var table: ConvolutionTable?

  /// What is used on a device that is described so.
  package init(of device: DeviceDescription) {
    self.device = TuningDatabase.Subject(device)
    table = device.convolutionTable
  }

  /// Has `description` use them again where that gives the same bits: on the same device, with the same driver and
  /// version of the library.
  ///
  /// - Returns: a line for the user where something is otherwise than one might think; nil where nothing is.
  package func use(on description: inout DeviceDescription) -> String? {
    let now = KernelChoice(of: description)
    guard now.device == device else {
      return "Kernels  the run was begun on \(device.device), driver \(device.driver), and goes on with another "
        + "device, driver or version of the kernels: the result is no longer the same to the bit"
    }
    guard now.table != table else { return nil }
    description.convolutionTable = table
    return "Kernels  \(text), as when the run was begun, so that the result stays the same to the bit; "
      + "a new run would use \(now.text)"
  }

  /// Whether these are not the default kernels.
  package var isTuned: Bool { table != nil }

  private var text: String { table.map { "those tuned \($0.date)" } ?? "the default ones" }
}
