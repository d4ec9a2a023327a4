import Dispatch
import Foundation
import Synchronization

/// Asks a run to end after the step it is in.
public final class StopRequest: Sendable {
  private let number = Atomic<Int32>(0)

  /// A request that has not been made.
  public init() {}

  /// Makes the request.
  ///
  /// - Parameter signal: the signal that made it, SIGTERM's number where it was none.
  public func make(signal: Int32 = SIGTERM) {
    number.store(signal, ordering: .sequentiallyConsistent)
  }

  /// Whether the request has been made.
  public var isMade: Bool { signal != nil }

  /// The signal that made the request; nil while there is none.
  public var signal: Int32? {
    let number = number.load(ordering: .sequentiallyConsistent)
    return number == 0 ? nil : number
  }

  /// The status that a process ends with because of the request, by the shell's convention; nil while there is none.
  public var exitStatus: Int32? { signal.map { 128 + $0 } }

  /// Makes the request, as SIGTERM does, once everyone has closed the other end of a pipe: so that a process ends with the
  /// one that started it, however that ended.
  ///
  /// - Parameters:
  ///   - descriptor: the end to read from; nobody else may.
  ///   - onEnd: called on a thread of its own once the request is made.
  public func make(atEndOf descriptor: Int32, _ onEnd: @escaping @Sendable () -> Void = {}) {
    let thread = Thread { [self] in
      var byte: UInt8 = 0
      var count: Int
      repeat { count = read(descriptor, &byte, 1) } while count > 0 || (count < 0 && errno == EINTR)
      if !isMade { make() }
      onEnd()
    }
    thread.start()
  }

  /// A request that SIGINT and SIGTERM make from now on. A second signal ends the process at once.
  ///
  /// - Parameter onSignal: called on a thread of its own after the first signal.
  public static func onSignals(_ onSignal: @escaping @Sendable () -> Void) -> StopRequest {
    let request = StopRequest()
    let queue = DispatchQueue(label: "signals")
    for number in [SIGINT, SIGTERM] {
      Foundation.signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler {
        if request.isMade { _exit(128 + number) }
        request.make(signal: number)
        onSignal()
      }
      source.resume()
      // Works for as long as something holds it: to the end of the process.
      _ = Unmanaged.passRetained(source as AnyObject)
    }
    return request
  }
}
