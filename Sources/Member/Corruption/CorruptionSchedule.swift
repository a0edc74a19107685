/// When the leader compares data with the other members: a value machine. Nanoseconds of the monotonic
/// clock; 0 turns a kind of check off.
struct CorruptionSchedule: Sendable {
  enum Check: Equatable, Sendable { case hashes, compactions }

  private let periods: [(check: Check, period: UInt64)]
  private var due: [UInt64]

  init(hashes: UInt64, compactions: UInt64, now: UInt64) {
    periods = [(.hashes, hashes), (.compactions, compactions)].filter { $0.1 > 0 }
    due = periods.map { now + $0.period }
  }

  /// The check to run now, if any: one at a time. Time goes on while the member does not lead.
  mutating func tick(now: UInt64, mayRun: Bool) -> Check? {
    for index in periods.indices where now >= due[index] {
      due[index] = now + periods[index].period
      if mayRun { return periods[index].check }
    }
    return nil
  }
}
