import ArgumentParser
import Base
import Glibc
import Simulation

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs seeds; the default.")

  @Option(help: "One seed; a failure is told as a story.")
  var seed: UInt64?
  @Option(help: "Seeds A..B, both included.")
  var seeds: SeedRange?
  @Option(help: "Processes that share the seeds.")
  var jobs = 1
  @OptionGroup var changes: RunChanges
  @Flag(help: .hidden)
  var worker = false
  @Flag(help: "Print each run's trace checksum.")
  var hashes = false
  @Option(help: "Seconds after which no more seeds are run.")
  var limit = Double.infinity
  @Flag(help: "Go on after a failure, and list all.")
  var all = false
  @Option(help: "Lines of the story.")
  var lines = 60

  func run() throws {
    if let seed { return try runOne(seed) }
    guard let seeds else { throw ValidationError("--seed N or --seeds A..B") }
    if worker { return runWorker(seeds) }
    let farm = Farm(template: changes.request(0), jobs: jobs)
    let report = farm.run(seeds, hashes: hashes, goesOn: all, limit: limit)
    print(report.summary)
    guard let failure = report.failures.first else { return }
    if all { for failure in report.failures { print("\(failure.seed) \(failure.reason)") } }
    print("\nseed \(failure.seed) fails: \(failure.reason)\n")
    tell(failure, farm)
    throw ExitCode(1)
  }

  private func runOne(_ seed: UInt64) throws {
    var request = changes.request(seed)
    request.storyLines = lines
    let result = request.run()
    print(result.story.joined(separator: "\n"))
    print("\nseed \(seed), trace \(result.traceHash.hex), \(result.counts)")
    guard let violation = result.violation else { return }
    print("\(result.options)\n\n\(violation)")
    throw ExitCode(1)
  }

  /// One line per seed to the process that waits for it.
  private func runWorker(_ seeds: SeedRange) {
    for seed in seeds.range {
      let result = changes.request(seed).run()
      let end = result.violation.map { "violation \($0)" } ?? "ok"
      let line = "\(seed) \(result.traceHash) \(result.counts.encoded) \(end)"
      print(line.split(separator: "\n").joined(separator: " | "))
      fflush(nil)
      if result.violation != nil, !all { return }
    }
  }

  private func tell(_ failure: Farm.Failure, _ farm: Farm) {
    let request = changes.request(failure.seed)
    print("looking for the shortest story ...")
    let shrunk = request.shrunk { farm.failure(of: $0)?.kind == failure.kind }
    var words = shrunk.command
    if lines != 60 { words += " --lines \(lines)" }
    // A trap would take this process along: the story is told by another one.
    fflush(nil)
    _ = farm.shell(words)
    print("\nto see it again: swift run -c release \(shrunk.command)")
    print("as it was found: swift run -c release \(request.command)")
  }
}

/// Changes of what a seed draws, common to all commands.
struct RunChanges: ParsableArguments {
  @Option(help: "What is simulated: core or member.")
  var layer = "core"
  @Option(
    help:
      "Faults to leave out, by commas: \(FaultKind.allCases.map(\.rawValue).joined(separator: ", "))."
  )
  var without: String = ""
  @Option(help: "Simulated seconds with faults.")
  var seconds: Int?
  @Option(help: "Members at the start.")
  var members: Int?
  @Option(help: "A known bug to plant: \(Plant.allCases.map(\.rawValue).joined(separator: ", ")).")
  var plant: String?

  func validate() throws {
    if Layer(rawValue: layer) == nil { throw ValidationError("no such layer: \(layer)") }
    if let plant, Plant(rawValue: plant) == nil { throw ValidationError("no such plant: \(plant)") }
    for word in without.split(separator: ",") where FaultKind(rawValue: String(word)) == nil {
      throw ValidationError("no such fault: \(word)")
    }
  }

  func request(_ seed: UInt64) -> RunRequest {
    var request = RunRequest(seed: seed)
    request.layer = Layer(rawValue: layer) ?? .core
    request.without = without.split(separator: ",").compactMap { FaultKind(rawValue: String($0)) }
    request.seconds = seconds
    request.members = members
    request.plant = plant.flatMap(Plant.init(rawValue:))
    return request
  }
}
