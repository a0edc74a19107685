import ArgumentParser
import Glibc
import Simulation

/// Plants each known bug in turn: the simulation has to find it.
struct PlantsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plants",
    abstract: "Plants known bugs one at a time, and requires each to be found.")

  @Option(help: "Most seeds for each.")
  var seeds: UInt64 = 500

  func run() throws {
    var missed: [String] = []
    for plant in Plant.allCases {
      var template = RunRequest(seed: 0)
      template.plant = plant
      let farm = Farm(template: template, jobs: 1)
      let report = farm.run(SeedRange(1...seeds))
      // What fails without the plant is another matter.
      let failure = report.failures.first { farm.failure(of: RunRequest(seed: $0.seed)) == nil }
      if let failure {
        print("\(plant): found by seed \(failure.seed): \(failure.reason.prefix(110))")
      } else {
        print("\(plant): NOT FOUND in \(seeds) seeds")
        missed.append(plant.rawValue)
      }
      fflush(nil)
    }
    guard missed.isEmpty else { throw ExitCode(1) }
  }
}
