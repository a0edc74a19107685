import Base
import Testing

@testable import StoreActor

/// The rules of automatic compaction, against tables of times.
struct CompactionScheduleTests {
  private static let second: UInt64 = 1_000_000_000
  private static let minute = 60 * second
  private static let hour = 60 * minute

  /// What happens at a look: the time since start, the revision then, and the expected compaction.
  private struct Row {
    var at: UInt64
    var revision: Int64
    var compacts: Int64?

    init(_ at: UInt64, _ revision: Int64, _ compacts: Int64? = nil) {
      self.at = at
      self.revision = revision
      self.compacts = compacts
    }
  }

  private func run(
    _ schedule: inout CompactionSchedule, _ rows: [Row], mayCompact: Bool = true,
    succeeds: Bool = true
  ) {
    for row in rows {
      let target = schedule.tick(now: row.at, revision: row.revision, mayCompact: mayCompact)
      #expect(target == row.compacts, "at \(row.at / Self.second) s")
      if target != nil { schedule.finished(now: row.at, succeeded: succeeds) }
    }
  }

  /// An hour: samples every six minutes, the first compaction after an hour, then every hour.
  @Test func periodOfAnHour() {
    var schedule = CompactionSchedule(policy: .periodic(retention: Self.hour), now: 0)
    #expect(schedule.interval == 6 * Self.minute)
    var rows = (0..<10).map { Row(UInt64($0) * 6 * Self.minute, Int64($0) * 10 + 1) }
    rows.append(Row(60 * Self.minute, 101, 1))
    rows += (11..<20).map { Row(UInt64($0) * 6 * Self.minute, Int64($0) * 10 + 1) }
    // Eleven samples are kept: the oldest of those before this one is the tenth.
    rows.append(Row(120 * Self.minute, 201, 91))
    run(&schedule, rows)
  }

  /// Above an hour: samples every six minutes still; first after the period, then every hour.
  @Test func periodOfADay() {
    let period = 24 * Self.hour
    var schedule = CompactionSchedule(policy: .periodic(retention: period), now: 0)
    var seen: [(minute: UInt64, revision: Int64)] = []
    for step in UInt64(0)...300 {
      let now = step * 6 * Self.minute
      if let target = schedule.tick(now: now, revision: Int64(step) + 1, mayCompact: true) {
        seen.append((now / Self.minute, target))
        schedule.finished(now: now, succeeded: true)
      }
    }
    #expect(seen.map(\.minute) == [24, 25, 26, 27, 28, 29, 30].map { $0 * 60 })
    // 241 samples: about a day, and the one before.
    #expect(seen.map(\.revision) == [1, 10, 20, 30, 40, 50, 60])
  }

  @Test func shortPeriodKeepsAtLeastThePeriod() {
    var schedule = CompactionSchedule(policy: .periodic(retention: 2 * Self.second), now: 0)
    var last: UInt64 = 0
    for tick in UInt64(0)..<200 {
      // The revision tells the time of its making, in tenths of a second.
      let now = tick * 100_000_000
      guard let target = schedule.tick(now: now, revision: Int64(tick) + 1, mayCompact: true) else {
        continue
      }
      schedule.finished(now: now, succeeded: true)
      #expect(tick - UInt64(target - 1) >= 20)
      #expect(tick - UInt64(target - 1) <= 24)
      #expect(now - last >= 2 * Self.second)
      last = now
    }
    #expect(last > 15 * Self.second)
  }

  @Test func othersSampleButDoNotCompact() {
    var schedule = CompactionSchedule(policy: .periodic(retention: Self.hour), now: 0)
    let rows = (0...15).map { Row(UInt64($0) * 6 * Self.minute, Int64($0) + 1) }
    run(&schedule, rows, mayCompact: false)
    // A new leader goes on with the samples that it has taken as a follower.
    run(&schedule, [Row(16 * 6 * Self.minute, 17, 6)])
  }

  @Test func nothingNewIsNotCompactedAgain() {
    var schedule = CompactionSchedule(policy: .periodic(retention: Self.hour), now: 0)
    var rows = (0..<10).map { Row(UInt64($0) * 6 * Self.minute, 5) }
    rows.append(Row(Self.hour, 5, 5))
    rows += (11..<40).map { Row(UInt64($0) * 6 * Self.minute, 5) }
    run(&schedule, rows)
  }

  @Test func failuresAreTriedAgainAtTheNextLook() {
    var schedule = CompactionSchedule(policy: .periodic(retention: Self.hour), now: 0)
    run(&schedule, (0..<10).map { Row(UInt64($0) * 6 * Self.minute, Int64($0) + 1) })
    run(
      &schedule,
      [Row(60 * Self.minute, 11, 1), Row(66 * Self.minute, 12, 1), Row(72 * Self.minute, 13, 2)],
      succeeds: false)
    run(&schedule, [Row(78 * Self.minute, 14, 3), Row(84 * Self.minute, 15)])
  }

  @Test func onlyOneIsUnderWay() {
    var schedule = CompactionSchedule(policy: .revisions(10), now: 0)
    #expect(schedule.tick(now: 5 * Self.minute, revision: 20, mayCompact: true) == 10)
    #expect(schedule.tick(now: 10 * Self.minute, revision: 30, mayCompact: true) == nil)
    schedule.finished(now: 11 * Self.minute, succeeded: true)
    #expect(schedule.tick(now: 11 * Self.minute, revision: 31, mayCompact: true) == 21)
  }

  @Test func revisions() {
    var schedule = CompactionSchedule(policy: .revisions(1000), now: 0)
    run(
      &schedule,
      [
        Row(0, 5000), Row(4 * Self.minute, 5000), Row(5 * Self.minute, 5000, 4000),
        Row(6 * Self.minute, 6000), Row(10 * Self.minute, 5000), Row(15 * Self.minute, 5001, 4001),
      ])
    var few = CompactionSchedule(policy: .revisions(1000), now: 0)
    run(&few, [Row(5 * Self.minute, 1000), Row(10 * Self.minute, 1001, 1)])
    var failing = CompactionSchedule(policy: .revisions(1000), now: 0)
    run(&failing, [Row(5 * Self.minute, 1500, 500)], succeeds: false)
    run(&failing, [Row(10 * Self.minute, 1500, 500), Row(15 * Self.minute, 1500)])
    var follower = CompactionSchedule(policy: .revisions(1000), now: 0)
    run(&follower, [Row(5 * Self.minute, 1500)], mayCompact: false)
  }

  @Test func off() {
    var schedule = CompactionSchedule(policy: .off, now: 0)
    run(&schedule, [Row(0, 5), Row(100 * Self.hour, 500)])
  }
}
