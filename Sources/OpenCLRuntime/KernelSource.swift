/// The text of an OpenCL C program with the name that errors and profiles show.
///
/// A user's own operation makes one from a string; the library's own are the files of the `Kernels` folder.
public struct KernelSource: Sendable, Hashable {
  /// What errors and profiles call the program.
  public let name: String
  /// OpenCL C, one kernel or several.
  public let text: String
  // Stands for the text in comparisons: hashing tens of kilobytes for every launch would cost more than the launch.
  package let fingerprint: UInt64
  /// Declarations of all of OpenCL C's functions that the text uses, for compilers that take long to declare every one;
  /// nil where nobody knows which it uses.
  package let builtins: String?

  /// A program of that text. It is compiled for a device when one of its kernels is first launched there.
  public init(name: String, text: String) {
    self.init(name: name, text: text, builtins: nil)
  }

  package init(name: String, text: String, builtins: String?) {
    self.name = name
    self.text = text
    self.builtins = builtins
    fingerprint = fnv1a(text.utf8)
  }

  /// Hashes a fingerprint of the text.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(fingerprint)
  }

  /// Whether name and text are the same.
  public static func == (a: KernelSource, b: KernelSource) -> Bool {
    a.fingerprint == b.fingerprint && a.name == b.name
  }
}

/// One argument of a kernel, in the order of its parameters.
public enum KernelArgument: Sendable {
  /// A `global` pointer to the start of the buffer.
  case buffer(Buffer)
  /// A 32-bit `int`; a value that does not fit traps.
  case int(Int)
  /// A 32-bit `float`.
  case float(Float)
  /// Local memory of so many bytes.
  case local(bytes: Int)
}

/// What a launch does, for profiles: the name shown, floating-point operations and bytes moved at the least.
public struct LaunchCost: Sendable {
  /// What profiles call the launch, usually the operation and its shapes.
  public var label: String
  /// Floating-point operations, a multiply-add counted as two.
  public var flops: Double
  /// Bytes that must be read and written, each counted once.
  public var bytes: Double
  /// Bytes of tensors that work-groups ask for together, where that was counted: more than `bytes` where several read the
  /// same values, which caches may or may not serve.
  package var requestedBytes: Double?

  /// The cost of one launch.
  public init(_ label: String, flops: Double = 0, bytes: Double = 0) {
    self.label = label
    self.flops = flops
    self.bytes = bytes
  }

  package init(_ label: String, flops: Double, bytes: Double, requestedBytes: Double) {
    self.init(label, flops: flops, bytes: bytes)
    self.requestedBytes = requestedBytes
  }
}
