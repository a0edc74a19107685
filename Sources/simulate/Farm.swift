import Glibc
import Simulation

/// Runs seeds in other processes: a precondition of the code under test that fails ends one of them, and
/// is a finding like any other.
struct Farm {
  struct Failure {
    let seed: UInt64
    let reason: String

    /// What two failures have in common if they are the same.
    var kind: Substring { reason.prefix { $0 != ":" && $0 != "(" } }
  }

  struct Report {
    var seeds = 0
    var counts = RunCounts()
    var failures: [Failure] = []
    var seconds = 0.0

    var summary: String {
      let rate = Int(Double(counts.steps) / max(seconds, 0.001))
      let perCommit = "\(counts.commits) commits, \(counts.writes) acknowledged writes, "
      return "\(seeds) seeds in \(Int(seconds * 10) / 10) s: \(counts.steps) steps (\(rate)/s), "
        + "\(counts.elections) elections, " + perCommit + "\(counts.reads) reads, "
        + "\(counts.events) events, \(counts.snapshots) snapshots, \(counts.crashes) crashes, "
        + "\(counts.membershipChanges) membership changes, \(counts.keepAlives) lease promises, "
        + "\(counts.expiries) expiries, \(counts.compactions) compactions, "
        + "\(failures.count) failures"
    }
  }

  private static let seedsPerProcess = 250

  /// What is run, but for the seed.
  let template: RunRequest
  let jobs: Int

  /// Runs all seeds. Each process stops at its first failure, unless it is to go on.
  ///
  /// - Parameter limit: seconds after which no more seeds are run.
  func run(
    _ seeds: SeedRange, hashes: Bool = false, goesOn: Bool = false, limit: Double = .infinity
  ) -> Report {
    var report = Report()
    let start = Self.now
    let count = Int(seeds.range.upperBound - seeds.range.lowerBound) + 1
    // Small parts: what a process writes has to fit into its pipe until it is read.
    var waiting = seeds.parts(max(1, jobs, count / Self.seedsPerProcess))[...]
    var work: [(SeedRange, UnsafeMutablePointer<FILE>?)] = []
    while true {
      while work.count < max(1, jobs), let part = waiting.popFirst() {
        work.append((part, popen(command(part, goesOn), "r")))
      }
      guard !work.isEmpty, Self.now < start + limit else { break }
      let (part, pipe) = work.removeFirst()
      guard let pipe else { continue }
      let next = read(pipe, part, hashes, until: start + limit, &report)
      // A trap has ended the process: the rest is run by another one.
      if goesOn, Self.now < start + limit, next <= part.range.upperBound {
        waiting.insert(SeedRange(next...part.range.upperBound), at: waiting.startIndex)
      }
      if !goesOn, !report.failures.isEmpty { break }
    }
    for (_, pipe) in work { if let pipe { pclose(pipe) } }
    report.seconds = Self.now - start
    report.failures.sort { $0.seed < $1.seed }
    return report
  }

  /// - Returns: the seed after the last that was run.
  private func read(
    _ pipe: UnsafeMutablePointer<FILE>, _ part: SeedRange, _ hashes: Bool, until end: Double,
    _ report: inout Report
  ) -> UInt64 {
    var next = part.range.lowerBound
    var hasFailed = false
    while Self.now < end, let line = Self.readLine(pipe) {
      let words = line.split(separator: " ", maxSplits: 3)
      guard words.count == 4, let seed = UInt64(words[0]) else { continue }
      if hashes { print("\(seed) \(words[1])") }
      next = seed + 1
      report.seeds += 1
      report.counts.add(words[2])
      if words[3] != "ok" {
        hasFailed = true
        let reason = words[3].dropFirst("violation ".count)
        report.failures.append(Failure(seed: seed, reason: String(reason)))
      }
    }
    // A process whose reader is gone ends with its next line.
    let status = pclose(pipe)
    if Self.now < end, status != 0, !hasFailed || next <= part.range.upperBound {
      report.failures.append(Failure(seed: next, reason: "trap: the process ended with \(status)"))
      next += 1
    }
    return next
  }

  /// How a request fails, if it does.
  func failure(of request: RunRequest) -> Failure? {
    var words = Array(request.command.split(separator: " ").dropFirst()).map(String.init)
    guard let seed = words.firstIndex(of: "--seed") else { return nil }
    words[seed] = "--seeds"
    guard
      let pipe = popen("\(Self.program) --worker \(words.joined(separator: " ")) 2>/dev/null", "r")
    else { return nil }
    var found: Failure?
    while let line = Self.readLine(pipe) {
      let parts = line.split(separator: " ", maxSplits: 3)
      guard parts.count == 4, parts[3] != "ok" else { continue }
      found = Failure(
        seed: request.seed, reason: String(parts[3].dropFirst("violation ".count)))
    }
    let status = pclose(pipe)
    if status != 0, found == nil {
      found = Failure(seed: request.seed, reason: "trap: the process ended with \(status)")
    }
    return found
  }

  func shell(_ command: String) -> Int32 {
    let words = command.split(separator: " ").dropFirst().joined(separator: " ")
    return system("\(Self.program) \(words)")
  }

  private func command(_ seeds: SeedRange, _ goesOn: Bool) -> String {
    var words = [Self.program, "--worker"] + (goesOn ? ["--all"] : [])
    words += ["--seeds", "\(seeds.range.lowerBound)..\(seeds.range.upperBound)"]
    // Without the program's name and its seed.
    words += template.command.split(separator: " ").dropFirst(3).map(String.init)
    return words.joined(separator: " ") + (template.plant == nil ? "" : " 2>/dev/null")
  }

  private static var program: String { "/proc/\(getpid())/exe" }

  private static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  private static func readLine(_ file: UnsafeMutablePointer<FILE>) -> String? {
    var buffer = [CChar](repeating: 0, count: 1 << 16)
    guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
    let bytes = buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
    return String(decoding: bytes, as: UTF8.self)
  }
}
