import Base

/// One run of the simulation and how it ended.
public struct RunResult: Sendable {
  public let seed: UInt64
  public let violation: Violation?
  public let traceHash: UInt64
  public let counts: RunCounts
  /// Simulated nanoseconds.
  public let time: UInt64
  public let story: [String]
  public let options: SimulationOptions
}

/// What is simulated.
public enum Layer: String, CaseIterable, Sendable {
  /// Raft cores with their state machines: fast.
  case core
  /// The actors of members on a replayable executor: everything but the sockets.
  case member
}

/// What is run: a seed, and what is changed of what it draws.
public struct RunRequest: Sendable {
  public var seed: UInt64
  public var layer = Layer.core
  public var without: [FaultKind] = []
  public var seconds: Int?
  public var members: Int?
  public var plant: Plant?
  public var storyLines = 0

  public init(seed: UInt64) { self.seed = seed }

  public var options: SimulationOptions {
    var generator = SeededGenerator(seed: seed ^ 0x5157_41d5)
    var options = SimulationOptions.random(&generator)
    // Each step of this layer does far more.
    if layer == .member { options.seconds = 2 + options.seconds / 3 }
    if let plant { options.favour(plant) }
    if let seconds { options.seconds = seconds }
    if let members { options.members = members }
    for kind in without { options.remove(kind) }
    return options
  }

  public func run() -> RunResult {
    switch layer {
    case .core: runCore()
    case .member: runMembers()
    }
  }

  private func runCore() -> RunResult {
    let world = World(seed: seed, options: options, plant: plant, storyLines: storyLines)
    let violation = Self.violation { () throws(Violation) in try world.run() }
    return RunResult(
      seed: seed, violation: violation, traceHash: world.trace.hash, counts: world.counts,
      time: world.now, story: world.trace.story, options: world.options)
  }

  private func runMembers() -> RunResult {
    let world = MemberWorld(seed: seed, options: options, storyLines: storyLines)
    let violation = Self.violation { () throws(Violation) in try world.run() }
    return RunResult(
      seed: seed, violation: violation, traceHash: world.trace.hash, counts: world.counts,
      time: world.now, story: world.trace.story, options: world.options)
  }

  private static func violation(_ body: () throws(Violation) -> Void) -> Violation? {
    do throws(Violation) {
      try body()
      return nil
    } catch {
      return error
    }
  }
}

extension RunRequest {
  /// Leaves out what the failure does not need: kinds of faults, members, time.
  ///
  /// - Parameter fails: whether a request still fails in the same way.
  public func shrunk(_ fails: (RunRequest) -> Bool) -> RunRequest {
    var best = self
    for kind in FaultKind.allCases where !best.without.contains(kind) {
      var candidate = best
      candidate.without.append(kind)
      if fails(candidate) { best = candidate }
    }
    for members in 1..<best.options.members {
      var candidate = best
      candidate.members = members
      if fails(candidate) {
        best = candidate
        break
      }
    }
    var seconds = best.options.seconds
    while seconds > 1 {
      var candidate = best
      candidate.seconds = seconds / 2
      guard fails(candidate) else { break }
      best = candidate
      seconds /= 2
    }
    return best
  }

  /// The command that runs it again.
  public var command: String {
    var words = ["simulate", "--seed", String(seed)]
    if layer != .core { words += ["--layer", layer.rawValue] }
    if !without.isEmpty { words += ["--without", without.map(\.rawValue).joined(separator: ",")] }
    if let members { words += ["--members", String(members)] }
    if let seconds { words += ["--seconds", String(seconds)] }
    if let plant { words += ["--plant", plant.rawValue] }
    return words.joined(separator: " ")
  }
}
