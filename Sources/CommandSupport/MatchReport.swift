import Fovea

extension PretrainedWeights.Match {
  /// For people: how many parameters fit, and which do not, at most `limit` of a kind.
  public func lines(limit: Int = 10) -> [String] {
    func list(_ title: String, _ items: [String]) -> [String] {
      guard !items.isEmpty else { return [] }
      let rest = items.count - limit
      return ["\(title) (\(items.count)):"] + items.prefix(limit).map { "  \($0)" }
        + (rest > 0 ? ["  … and \(rest) more"] : [])
    }
    return ["\(loaded.count) parameters loaded"]
      + list("other shape, left as they were", mismatched.map { "\($0.name): \($0.file), the model has \($0.model)" })
      + list("not in the file, left as they were", missing) + list("in the file only", unused)
  }
}
