// apusctl: the command line client.

import Glibc

@main
struct Apusctl {
  static func main() async {
    signal(SIGPIPE, SIG_IGN)
    let words = words()
    let program = Program(
      root: Commands.root(name: invokedName()), console: .standard, environment: variables())
    exit(await program.run(words))
  }

  /// The words after the program's name, with all their bytes.
  private static func words() -> [String] {
    (0..<Int(CommandLine.argc)).dropFirst().compactMap { index in
      CommandLine.unsafeArgv[index].map { pointer in
        RawText.string(UnsafeRawBufferPointer(start: pointer, count: strlen(pointer)))
      }
    }
  }

  private static func invokedName() -> String {
    let name = CommandLine.arguments.first?.split(separator: "/").last.map(String.init)
    return name == Program.contractName ? Program.contractName : "apusctl"
  }

  private static func variables() -> [String: String] {
    var result: [String: String] = [:]
    var entry = environ
    while let pointer = entry.pointee {
      let text = String(cString: pointer)
      if let equals = text.firstIndex(of: "=") {
        result[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      entry += 1
    }
    return result
  }
}
