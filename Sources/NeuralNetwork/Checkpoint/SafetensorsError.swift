/// A file that is not valid safetensors, or that does not hold what was asked of it.
public struct SafetensorsError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong with the file.
  public enum Reason: Sendable, Equatable {
    /// The file is too short to hold the length of its header.
    case tooShort(bytes: Int)
    /// The file begins as no safetensors file does; what it is instead where that is known, with the way out.
    case otherFormat(String?)
    /// The header is said to be longer than the file, or than any header may be.
    case headerLength(UInt64, fileBytes: Int)
    /// The header is not UTF-8.
    case headerNotUTF8
    /// The header is not the JSON that it should be; `position` counts bytes from the header's start.
    case headerSyntax(String, position: Int)
    /// A key occurs twice in one object.
    case duplicateKey(String)
    /// A tensor's entry is incomplete or contradicts itself.
    case invalidEntry(tensor: String, String)
    /// The tensors' bytes overlap, leave a hole, or do not end where the file ends.
    case layout(String)
    /// There is no tensor of this name.
    case missingTensor(String)
    /// There is no such key, or no such value under it, in the metadata.
    case missingMetadata(String)
    /// A tensor has another shape than the one asked for.
    case shapeMismatch(tensor: String, found: [Int], expected: [Int])
    /// A tensor holds no floating-point numbers.
    case notFloatingPoint(tensor: String, dtype: String)
    /// The file has become shorter since it was opened.
    case changedWhileReading
    /// What was to be written cannot be written as safetensors.
    case cannotRepresent(String)
  }

  /// The file.
  public let path: String
  /// What is wrong with it.
  public let reason: Reason

  /// What is wrong with which file, in one line.
  public var description: String {
    switch reason {
    case .tooShort(let bytes):
      return "\(path) is not a safetensors file: \(bytes) bytes are too few for a header"
    case .otherFormat(let format):
      return "\(path) is not a safetensors file" + (format.map { ", but \($0)" } ?? "")
    case .headerLength(let length, let fileBytes):
      return "\(path) is cut short or not a safetensors file: its header would be \(length) bytes long, the file has "
        + "\(fileBytes) and a header may have \(SafetensorsFile.maximumHeaderBytes)"
    case .headerNotUTF8:
      return "\(path) is not a valid safetensors file: its header is not UTF-8"
    case .headerSyntax(let problem, let position):
      return "\(path) is not a valid safetensors file: \(problem) at byte \(position) of its header"
    case .duplicateKey(let key):
      return "\(path) is not a valid safetensors file: the key \(quoted(key)) occurs twice"
    case .invalidEntry(let tensor, let problem):
      return "\(path) is not a valid safetensors file: tensor \(quoted(tensor)) \(problem)"
    case .layout(let problem):
      return "\(path) is not a valid safetensors file: \(problem)"
    case .missingTensor(let tensor):
      return "\(path) holds no tensor \(quoted(tensor))"
    case .missingMetadata(let key):
      return "\(path) says nothing of \(quoted(key)) in its metadata"
    case .shapeMismatch(let tensor, let found, let expected):
      return "\(path): tensor \(quoted(tensor)) has shape \(found), not \(expected)"
    case .notFloatingPoint(let tensor, let dtype):
      return "\(path): tensor \(quoted(tensor)) is \(dtype), not F32, F64, F16 or BF16"
    case .changedWhileReading:
      return "\(path) became shorter while it was being read"
    case .cannotRepresent(let problem):
      return "cannot write \(path): \(problem)"
    }
  }
}

/// A name from a file as part of a message: in quotes, on one line, and not longer than a line can be.
func quoted(_ name: String) -> String {
  var text = "'"
  for (index, scalar) in name.unicodeScalars.enumerated() {
    if index == 120 {
      text += "…"
      break
    }
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .format: text += "\\u{\(String(scalar.value, radix: 16))}"
    default: text.unicodeScalars.append(scalar)
    }
  }
  return text + "'"
}
