/// Notices that the process stood still, so long that another member may lead by now, and remembers that
/// until the leadership is proved anew.
///
/// The first thing that runs after a pause is often the tick: that time passes normally again says
/// nothing about who leads.
struct StallGuard: Sendable {
  /// Nanoseconds without a tick that mean nothing.
  private let tolerance: UInt64
  private var lastTick: UInt64?
  /// Reads asked under a later id than this one prove the leadership.
  private var doubtedAt: UInt64?

  init(tickInterval: UInt64) { tolerance = 3 * tickInterval }

  /// Time passes; `id` is a request id newer than all before.
  mutating func tick(now: UInt64, id: UInt64) {
    if let lastTick, now - lastTick > tolerance { doubtedAt = id }
    lastTick = now
  }

  /// Whether what only a leader may answer needs a proof first.
  func mustProve(now: UInt64) -> Bool {
    guard doubtedAt == nil, let lastTick else { return true }
    return now - lastTick > tolerance
  }

  /// A read was confirmed that was asked under `id`.
  mutating func confirmed(id: UInt64) {
    if let doubtedAt, id > doubtedAt { self.doubtedAt = nil }
  }
}
