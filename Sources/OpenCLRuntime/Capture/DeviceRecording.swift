import COpenCL
import Foundation
import Synchronization

// What a device does differently while a step is recorded: nothing runs, and what could not be replayed is an error.

extension Device {
  /// Runs `body` so that what it launches on this thread is noted instead of run, and memory that it asks for is only planned.
  ///
  /// - Throws: what `body` throws, or the first `CaptureError`.
  func recording<Result>(_ body: () throws -> Result) throws -> (Recording, Result) {
    let isNested = state.withLock { state in
      if state.isRecording { return true }
      state.recordings[.current] = Recording()
      return false
    }
    if isNested {
      _ = forbidsInRecording(.nested)
      throw CaptureError.nested
    }
    // Taken out before it is looked at: buffers that end meanwhile take the lock.
    func take() -> Recording? { state.withLock { $0.recordings.removeValue(forKey: .current) } }
    let result: Result
    do {
      result = try body()
    } catch {
      let recording = take()
      throw recording?.error ?? error
    }
    guard let recording = take() else { preconditionFailure("Device.recording: ended by someone else") }
    if let error = recording.error { throw error }
    return (recording, result)
  }

  /// Notes a command if a step is recorded; returns whether one is.
  func record(_ command: (inout Recording) -> Recording.Command) -> Bool {
    state.withLock { state in
      guard var recording = state.recordings.removeValue(forKey: .current) else { return false }
      if state.failure == nil {
        let command = command(&recording)
        recording.append(command)
      }
      state.recordings[.current] = recording
      return true
    }
  }

  /// Memory for the step that is recorded; nil when none is.
  func recordedMemory(byteCount: Int) -> CapturedMemory? {
    state.withLock { $0.isRecording ? $0.recordings[.current]?.allocate(byteCount: byteCount) : nil }
  }

  /// Says that the buffer of captured memory is gone.
  func endUse(of memory: CapturedMemory) {
    state.withLock { state in
      for thread in state.recordings.keys { state.recordings[thread]?.release(memory) }
    }
  }

  /// Whether a step is recorded; notes `error` then.
  func forbidsInRecording(_ error: CaptureError) -> Bool {
    state.withLock { state in
      guard state.isRecording else { return false }
      state.recordings[.current]?.fail(error)
      return true
    }
  }

  /// Throws when a step is recorded: what is read in it would not be read in a replay.
  func checkNotRecording(_ call: String) throws {
    let error = CaptureError.hostRead(call: call)
    if forbidsInRecording(error) { throw error }
  }

  /// Runs `body` as if no step were recorded.
  func withoutRecording<Result>(_ body: () -> Result) -> Result {
    guard let recording = state.withLock({ $0.recordings.removeValue(forKey: .current) }) else { return body() }
    defer { state.withLock { $0.recordings[.current] = recording } }
    return body()
  }
}

/// A thread of this process, as long as it runs.
struct ThreadID: Hashable {
  private let id: UInt

  static var current: ThreadID {
    #if canImport(Darwin)
      ThreadID(id: UInt(bitPattern: pthread_self()))
    #else
      ThreadID(id: pthread_self())
    #endif
  }
}
