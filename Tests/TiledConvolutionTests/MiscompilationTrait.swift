import OpenCLRuntime
import Testing

/// Makes known issues of expectations that fail where the driver miscompiles some kernels with barriers
/// (`DeviceDescription.miscompilesBarriers`), but not of errors; elsewhere it does nothing.
struct MiscompilationTrait: TestTrait, SuiteTrait {
  var isRecursive: Bool { true }
}

// Without such traits, before Swift 6.1, the test fails.
#if compiler(>=6.1)
  extension MiscompilationTrait: TestScoping {
    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void)
      async throws
    {
      try await withKnownIssue("the driver miscompiles some kernels with barriers", isIntermittent: true) {
        try await function()
      } when: {
        (try? DeviceTests.device.get().description.miscompilesBarriers) ?? false
      } matching: { issue in
        if case .expectationFailed = issue.kind { true } else { false }
      }
    }
  }
#endif

extension Trait where Self == MiscompilationTrait {
  static var allowingForMiscompilation: Self { Self() }
}
