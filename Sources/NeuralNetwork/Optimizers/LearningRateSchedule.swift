import Foundation

/// The learning rate as a function of the step.
public struct LearningRateSchedule: Sendable {
  /// The rate of step 0, 1, …
  public let rate: @Sendable (Int) -> Float

  /// Any function of the step as a schedule.
  public init(_ rate: @escaping @Sendable (Int) -> Float) {
    self.rate = rate
  }

  /// The same rate at every step.
  public static func constant(_ rate: Float) -> LearningRateSchedule {
    LearningRateSchedule { _ in rate }
  }

  /// Half a cosine from `rate` to `final` over `steps` (Loshchilov & Hutter 2017), then `final`.
  public static func cosine(_ rate: Float, steps: Int, final: Float = 0) -> LearningRateSchedule {
    precondition(steps > 0, "cosine schedule: steps must be positive")
    return LearningRateSchedule { step in
      let progress = min(Double(step) / Double(steps), 1)
      return final + (rate - final) * Float(0.5 * (1 + cos(Double.pi * progress)))
    }
  }

  /// `rate` times `factor` for every `every` steps done.
  public static func step(_ rate: Float, every: Int, factor: Float) -> LearningRateSchedule {
    precondition(every > 0, "step schedule: the interval must be positive")
    return LearningRateSchedule { step in rate * Float(pow(Double(factor), Double(step / every))) }
  }

  /// The same after a linear rise over the first `steps` steps, which this schedule's own step 0 follows.
  public func warmedUp(over steps: Int) -> LearningRateSchedule {
    guard steps > 0 else { return self }
    let rate = rate
    return LearningRateSchedule { step in
      step < steps ? rate(0) * Float(step + 1) / Float(steps) : rate(step - steps)
    }
  }
}
