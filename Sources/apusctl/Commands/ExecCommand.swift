// Running a program and waiting for it.

import Glibc

enum ExecCommand {
  /// Runs a program with this process's output and environment, and waits.
  ///
  /// - Parameter variables: `NAME=value`, after the inherited ones.
  /// - Throws: exit code 1 if it cannot be started or fails, told in Go's words.
  static func run(
    _ words: [String], variables: [String], _ console: Console
  ) throws(CommandFailure) {
    guard let reason = failure(words, variables) else { return }
    let shown = words.map(GoText.quote).joined(separator: " ")
    console.printError("command [\(shown)] error (\(reason))")
    throw CommandFailure(CommandFailure.Code.error, nil)
  }

  private static func failure(_ words: [String], _ variables: [String]) -> String? {
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map(copy) + [nil]
    let names = variables.map { $0.prefix { $0 != "=" } + "=" }
    var inherited: [UnsafeMutablePointer<CChar>?] = []
    var entry = environ
    while let pointer = entry.pointee {
      let text = String(cString: pointer)
      if !names.contains(where: { text.hasPrefix($0) }) { inherited.append(strdup(pointer)) }
      entry += 1
    }
    var environment = inherited + variables.map(copy) + [nil]
    defer {
      for pointer in arguments + environment { free(pointer) }
    }
    var process = pid_t()
    let status = posix_spawnp(&process, words[0], nil, nil, &arguments, &environment)
    if status != 0 {
      return status == ENOENT && !words[0].contains("/")
        ? "exec: \(GoText.quote(words[0])): executable file not found in $PATH"
        : "fork/exec \(words[0]): \(SystemText.error(status))"
    }
    var outcome: Int32 = 0
    while waitpid(process, &outcome, 0) < 0, errno == EINTR {}
    let signal = outcome & 0x7f
    if signal != 0 { return "signal: \(SystemText.signal(signal))" }
    let code = outcome >> 8 & 0xff
    return code == 0 ? nil : "exit status \(code)"
  }

  private static func copy(_ text: String) -> UnsafeMutablePointer<CChar>? {
    let bytes = RawText.bytes(text).filter { $0 != 0 } + [0]
    return bytes.withUnsafeBufferPointer { buffer in
      buffer.withMemoryRebound(to: CChar.self) { $0.baseAddress.map { strdup($0) } }
    }
  }
}

/// The system's texts in Go's form: without the capital.
enum SystemText {
  static func error(_ number: Int32) -> String { lowered(strerror(number)) }

  static func signal(_ number: Int32) -> String { lowered(strsignal(number)) }

  private static func lowered(_ text: UnsafeMutablePointer<CChar>?) -> String {
    let text = text.map { String(cString: $0) } ?? "unknown"
    return text.prefix(1).lowercased() + text.dropFirst()
  }
}
