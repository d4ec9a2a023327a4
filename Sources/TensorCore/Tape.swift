import OpenCLRuntime
import Synchronization

/// The record of operations whose gradients may be asked for.
///
/// `valueWithGradients` makes one, runs a function under it and walks it backwards. Operations add themselves through
/// `Tape.record`; anything that does not depend on a trainable parameter or a watched tensor is left out.
public final class Tape: @unchecked Sendable {
  /// The tape that operations on this task record to, if any.
  @TaskLocal public static var current: Tape?

  /// Unique for the life of the process.
  public let id: Int

  /// Called with each operation that is recorded, right after its kernels have been enqueued.
  public var onRecord: ((_ name: String, _ inputs: [Tensor], _ outputs: [Tensor]) -> Void)?

  private struct Entry {
    var name: String
    var outputs: [Tensor]
    var backward: (GradientStore) -> Void
  }

  private var entries: [Entry] = []
  private var tracked: Set<Int> = []
  /// The first entry that writes a storage: once it has run backwards nothing needs that storage's gradient any more.
  private var firstProducer: [Int: Int] = [:]
  private var kept: Set<Int> = []

  private static let nextID = Atomic<Int>(0)

  /// An empty tape.
  public init() {
    id = Self.nextID.wrappingAdd(1, ordering: .relaxed).newValue
  }

  /// Asks for the gradient with respect to `tensor`.
  public func watch(_ tensor: Tensor) {
    tracked.insert(tensor.storage.id)
    kept.insert(tensor.storage.id)
  }

  /// Whether nobody but the operation that made `storage` reads its gradient.
  fileprivate func isIntermediate(_ storage: Storage) -> Bool {
    firstProducer[storage.id] != nil && !kept.contains(storage.id) && storage.gradientHome == nil
  }

  /// Whether a gradient flows to `tensor`.
  public func isTracked(_ tensor: Tensor) -> Bool {
    tensor.storage.requiresGradient || tracked.contains(tensor.storage.id)
  }

  /// Adds an operation to the current tape if a gradient flows to any of its inputs.
  ///
  /// `backward` is called once, after the gradients of all outputs are complete. It reads them with
  /// `GradientStore.gradient(of:)` and writes to `GradientStore.destination(for:)` for each input.
  public static func record(
    _ name: String, inputs: [Tensor], outputs: [Tensor], backward: @escaping (GradientStore) -> Void
  ) {
    guard let tape = current, inputs.contains(where: tape.isTracked) else { return }
    for output in outputs {
      tape.tracked.insert(output.storage.id)
      if tape.firstProducer[output.storage.id] == nil { tape.firstProducer[output.storage.id] = tape.entries.count }
    }
    tape.entries.append(Entry(name: name, outputs: outputs, backward: backward))
    tape.onRecord?(name, inputs, outputs)
  }

  /// Walks the tape backwards from `loss`, whose own gradient is `seed` (ones when nil). The tape is empty afterwards:
  /// what it kept alive is freed on the way.
  public func gradients(of loss: Tensor, seed: Tensor? = nil) -> GradientStore {
    let store = GradientStore(tape: self)
    guard isTracked(loss), let destination = store.destination(for: loss) else { return store }
    if let seed {
      precondition(seed.shape == loss.shape, "gradients: seed \(seed.shape) for a loss of shape \(loss.shape)")
      destination.tensor.overwrite(with: seed)
    } else {
      destination.tensor.fill(1)
    }
    while let entry = entries.popLast() {
      let index = entries.count
      if entry.outputs.contains(where: { store.hasGradient($0) }) {
        Tape.$current.withValue(nil) { entry.backward(store) }
      }
      for output in entry.outputs where firstProducer[output.storage.id] == index && !kept.contains(output.storage.id) {
        store.discard(output)
      }
    }
    store.finishGathered()
    return store
  }
}

extension MemoryLabel {
  /// Gradients of what is no parameter.
  package static let activationGradients = MemoryLabel("gradients of activations")
}

/// A contribution to a gradient that is all there but not in the form of the gradient yet.
package protocol PostponedContribution {
  /// Writes the gradient.
  func write()
}

/// The place for the first contribution to a gradient until somebody reads or adds to it.
private final class Postponement {
  private var contribution: (any PostponedContribution)?
  private var isOpen = true

  /// False where it is too late.
  func hold(_ contribution: any PostponedContribution) -> Bool {
    if isOpen { self.contribution = contribution }
    return isOpen
  }

  /// Writes what is held. From now on nothing is.
  func close() {
    contribution?.write()
    (contribution, isOpen) = (nil, false)
  }

  func take<C: PostponedContribution>(_ type: C.Type) -> C? {
    guard let taken = contribution as? C else { return nil }
    (contribution, isOpen) = (nil, false)
    return taken
  }
}

/// Contributions to the gradients of parameters that are complete but for a last step, which one launch can do for many.
package protocol GatheredContributions: AnyObject {
  /// Writes the gradients that are not written yet.
  func finish()
  /// Whether this gradient is one of them.
  func contains(_ gradient: Storage) -> Bool
}

/// Gradients by tensor. A view's gradient is the same view of its storage's gradient.
public final class GradientStore {
  private struct Entry {
    var gradient: Storage
    var written = RangeSet()
    var postponement: Postponement?
  }

  private let tape: Tape
  private var entries: [Int: Entry] = [:]
  private var gathered: (any GatheredContributions)?

  package init(tape: Tape) {
    self.tape = tape
  }

  /// Where to write a gradient contribution.
  public struct Destination {
    /// Where to write: the gradient of the input, of the same shape, with a stride of its own.
    public let tensor: Tensor
    /// Whether to add to what is there; otherwise its contents are undefined and must be overwritten.
    public let accumulate: Bool
    private let postponement: Postponement?
    /// The store of a gradient with a home of its own, where it stays until the end of the backward pass.
    private let store: GradientStore?

    /// A place for an operation to write to.
    public init(tensor: Tensor, accumulate: Bool) {
      self.init(tensor: tensor, accumulate: accumulate, postponement: nil, store: nil)
    }

    fileprivate init(tensor: Tensor, accumulate: Bool, postponement: Postponement?, store: GradientStore?) {
      self.tensor = tensor
      self.accumulate = accumulate
      self.postponement = postponement
      self.store = store
    }

    /// Writes `contribution` now, or leaves that to whoever reads the gradient, who may do with less than that; see
    /// `GradientStore.takePostponed`.
    package func write(_ contribution: some PostponedContribution) {
      if postponement?.hold(contribution) != true { contribution.write() }
    }

    /// The contributions of this backward pass that are finished together, to add the one to this gradient to; `make` makes
    /// them for the first. They are finished at the end of the pass, or before somebody reads or adds to one of their
    /// gradients. Nil where the gradient has no home, such as a parameter's in an arena, and may not last until then.
    package func gathered<C: GatheredContributions>(_ make: () -> C) -> C? {
      store?.gathered(make)
    }
  }

  /// The gradient with respect to `tensor`, or nil when the result does not depend on it.
  public subscript(tensor: Tensor) -> Tensor? { gradient(of: tensor) }

  /// The gradient accumulated so far for `tensor`, or nil when there is none.
  public func gradient(of tensor: Tensor) -> Tensor? {
    guard var entry = entries[tensor.storage.id], entry.written.overlaps(tensor.channelRange) else { return nil }
    entry.postponement?.close()
    finishGathered(entry.gradient)
    let gaps = entry.written.missing(from: tensor.channelRange)
    if !gaps.isEmpty {
      zero(gaps, of: entry.gradient)
      entry.written.insert(tensor.channelRange)
      entries[tensor.storage.id] = entry
    }
    return view(of: entry.gradient, like: tensor)
  }

  /// Where a contribution to the gradient of `tensor` goes, or nil when nobody asks for it. The caller must write every
  /// element of it. A gradient has the type of its tensor: one of 16 bits is rounded at each contribution.
  public func destination(for tensor: Tensor) -> Destination? {
    guard tape.isTracked(tensor) else { return nil }
    let storage = tensor.storage
    entries[storage.id]?.postponement?.close()
    var entry =
      entries[storage.id]
      ?? Entry(
        gradient: storage.gradientHome
          ?? storage.device.labellingMemory(.activationGradients) {
            Storage(
              device: storage.device, rows: storage.rows, channels: storage.channels,
              dtype: storage.dtype.isSixteenBit ? storage.dtype : .float32)
          })
    finishGathered(entry.gradient)
    let range = tensor.channelRange
    let accumulate = entry.written.overlaps(range)
    if accumulate { zero(entry.written.missing(from: range), of: entry.gradient) }
    entry.postponement =
      !accumulate && tensor.coversStorage && tape.isIntermediate(storage) ? Postponement() : nil
    entry.written.insert(range)
    entries[storage.id] = entry
    return Destination(
      tensor: view(of: entry.gradient, like: tensor), accumulate: accumulate, postponement: entry.postponement,
      store: storage.gradientHome == nil ? nil : self)
  }

  /// The gradient of an operation's result where it is one contribution, of that type, and not written yet: for the
  /// operation, whose gradient may be computed in the same launch. It is not written then, and not to be read.
  package func takePostponed<C: PostponedContribution>(_ type: C.Type, for tensor: Tensor) -> C? {
    entries[tensor.storage.id]?.postponement?.take(type)
  }

  private func gathered<C: GatheredContributions>(_ make: () -> C) -> C {
    if let known = gathered as? C { return known }
    finishGathered()
    let new = make()
    gathered = new
    return new
  }

  func finishGathered() {
    gathered?.finish()
    gathered = nil
  }

  private func finishGathered(_ gradient: Storage) {
    if let gathered, gathered.contains(gradient) { finishGathered() }
  }

  func hasGradient(_ tensor: Tensor) -> Bool {
    entries[tensor.storage.id]?.written.overlaps(tensor.channelRange) ?? false
  }

  func discard(_ tensor: Tensor) {
    entries[tensor.storage.id] = nil
  }

  private func zero(_ gaps: [Range<Int>], of storage: Storage) {
    let shape = Shape([storage.rows, storage.channels])
    for gap in gaps {
      Tensor(storage: storage, shape: shape.withChannels(gap.count), channels: gap).fill(0)
    }
  }

  private func view(of gradient: Storage, like tensor: Tensor) -> Tensor {
    tensor.coversStorage
      ? Tensor(storage: gradient, shape: tensor.shape)
      : Tensor(storage: gradient, shape: tensor.shape, channels: tensor.channelRange)
  }
}

/// Runs `body` under a new tape and returns its value with the gradients of that value (a scalar, or the sum of its
/// elements) with respect to the trainable parameters it used and the `watched` tensors.
///
/// - Parameters:
///   - watched: tensors other than parameters whose gradients are wanted.
///   - seed: what the gradients are multiplied by, of the value's shape and type; nil for 1.
///   - body: any function that ends in one tensor; it runs once.
/// - Returns: the tensor that `body` returned, and the gradients by tensor.
public func valueWithGradients(
  at watched: [Tensor] = [], seed: Tensor? = nil, of body: () throws -> Tensor
) rethrows -> (value: Tensor, gradients: GradientStore) {
  let tape = Tape()
  watched.forEach(tape.watch)
  let value = try Tape.$current.withValue(tape, operation: body)
  return (value, tape.gradients(of: value, seed: seed))
}
