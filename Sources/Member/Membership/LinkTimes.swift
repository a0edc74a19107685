import Base

/// Since when this member has been connected to each other one. Times are monotonic nanoseconds.
struct LinkTimes {
  private var since: [MemberID: UInt64] = [:]

  mutating func changed(_ member: MemberID, isActive: Bool, now: UInt64) {
    if !isActive {
      since[member] = nil
    } else if since[member] == nil {
      since[member] = now
    }
  }

  func isConnected(_ member: MemberID) -> Bool { since[member] != nil }

  /// Whether the connection has held since `time` or longer.
  func isConnected(_ member: MemberID, since time: UInt64) -> Bool {
    self.since[member].map { $0 <= time } ?? false
  }

  /// Whether the connection has held for at least `duration`.
  func isConnected(_ member: MemberID, for duration: UInt64, now: UInt64) -> Bool {
    since[member].map { $0 + duration <= now } ?? false
  }
}
