/// Majority arithmetic over a set of voters.
enum Quorum {
  enum Result: Equatable, Sendable { case pending, won, lost }

  /// The number of voters that make a majority of `voters`.
  static func size(voters: Int) -> Int { voters / 2 + 1 }

  /// The greatest value that a majority has reached, given one value per voter; 0 without voters.
  ///
  /// Sorts `values` in place so that the caller can reuse its buffer.
  static func reached(_ values: inout [UInt64]) -> UInt64 {
    guard !values.isEmpty else { return 0 }
    values.sort()
    return values[values.count - size(voters: values.count)]
  }

  /// The state of a vote after `granted` and `refused` answers of `voters`.
  static func tally(voters: Int, granted: Int, refused: Int) -> Result {
    precondition(granted + refused <= voters)
    let needed = size(voters: voters)
    if voters > 0 && granted >= needed { return .won }
    return granted + (voters - granted - refused) < needed ? .lost : .pending
  }
}
