import Glibc
import Member

// The member executable: `apus --help`. All decisions are in the Member module.

let arguments = Array(CommandLine.arguments.dropFirst())
let outcome = MemberConfiguration.parse(
  arguments: arguments, environment: ProcessEnvironment.variables,
  readFile: ProcessEnvironment.readFile, defaultHost: ProcessEnvironment.defaultHost)

switch outcome {
case .exit(let message): exit(message.report())
case .start(let configuration, let records): exit(MemberProgram.run(configuration, records))
}
