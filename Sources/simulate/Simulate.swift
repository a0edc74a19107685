import ArgumentParser
import Simulation

@main
struct Simulate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate",
    abstract: "Runs clusters in a simulated world, from a seed each, and checks every step.",
    subcommands: [RunCommand.self, PlantsCommand.self], defaultSubcommand: RunCommand.self)
}
