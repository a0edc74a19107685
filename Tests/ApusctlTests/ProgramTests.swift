import Synchronization
import Testing

@testable import apusctl

/// What a run has printed.
private final class Capture: Sendable {
  private let texts = Mutex((out: "", error: ""))

  var out: String { texts.withLock { $0.out } }
  var error: String { texts.withLock { $0.error } }

  var console: Console {
    Console(
      write: { bytes in self.texts.withLock { $0.out += String(decoding: bytes, as: UTF8.self) } },
      writeError: { bytes in
        self.texts.withLock { $0.error += String(decoding: bytes, as: UTF8.self) }
      }, readLine: { nil }, readAll: { [] })
  }
}

private func run(
  _ words: String..., environment: [String: String] = [:]
) async -> (code: Int32, out: String, error: String) {
  let capture = Capture()
  let program = Program(
    root: Commands.root(name: "apusctl"), console: capture.console, environment: environment)
  let code = await program.run(words)
  return (code, capture.out, capture.error)
}

@Suite struct ProgramTests {
  @Test(arguments: [
    (["get"], 128, "get command needs one argument as key and an optional argument as range_end"),
    (["get", "k", "--order=x"], 4, "bad sort order x"),
    (
      ["get", "k", "--min-mod-rev", "5", "--max-mod-rev", "3"], 4,
      "getMinModRev(=5) > getMaxModRev(=3)"
    ),
    (["get", "k", "-w", "bogus"], 4, "unsupported output format"),
    (["--endpoints=", "get", "k"], 2, "etcdclient: no available endpoints"),
    (["put", "s"], 128, "put command needs 1 argument and input from stdin or 2 arguments"),
    (
      ["put", "s", "-dash"], 128,
      "put command needs 1 argument and input from stdin or 2 arguments"
    ),
    (
      ["put", "k", "v", "--lease=zz"], 128,
      "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex"
    ),
    (["compaction", "abc"], 1, "strconv.ParseInt: parsing \"abc\": invalid syntax"),
    (["txn"], 3, "EOF"),
    (["watch"], 128, "bad number of arguments"),
    (["lease", "grant"], 128, "lease grant command needs TTL argument"),
    (["alarm", "list", "x"], 128, "alarm list command accepts no arguments"),
    (
      ["snapshot", "save", "--endpoints=a:1,b:1", "f"], 5,
      "snapshot must be requested to one selected node, not multiple [a:1 b:1]"
    ),
    (["--cert=", "get", "k"], 128, "empty string is passed to --cert option"),
    (
      ["--cert=/nope", "get", "k"], 128,
      "KeyFile and CertFile must both be present[key: , cert: /nope]"
    ),
    (
      ["--cert=/nope", "--key=/nope", "get", "k"], 128,
      "open /nope: no such file or directory"
    ),
    (["--cacert=/nope", "get", "k"], 128, "open /nope: no such file or directory"),
    (["auth", "enable", "x"], 128, "auth enable command does not accept any arguments"),
    (["user", "add"], 128, "user add command requires user name as its argument"),
    (["user", "add", ":p"], 128, "empty user name is not allowed"),
    (
      ["user", "grant-role", "u"], 128,
      "user grant command requires user name and role name as its argument"
    ),
    (
      ["user", "revoke-role", "u"], 128,
      "user revoke-role requires user name and role name as its argument"
    ),
    (["role", "list", "x"], 128, "role list command requires no arguments"),
    (["role", "get"], 128, "role get command requires role name as its argument"),
    (
      ["role", "grant-permission", "r", "read"], 128,
      "role grant command requires role name, permission type, and key [endkey] as its argument"
    ),
    (["role", "grant-permission", "r", "bad", "k"], 128, "invalid permission type: bad"),
    (
      ["role", "grant-permission", "r", "read", "k", "l", "--prefix"], 128,
      "unexpected endkey argument with --prefix flag"
    ),
    (
      ["role", "revoke-permission", "r", "k", "--prefix", "--from-key"], 128,
      "--from-key and --prefix flags are mutually exclusive"
    ),
    (["lock", "x"], 1, "the command \"lock\" is not available in apusctl yet"),
  ])
  func failures(_ words: [String], _ code: Int32, _ message: String) async {
    let capture = Capture()
    let program = Program(
      root: Commands.root(name: "apusctl"), console: capture.console, environment: [:])
    #expect(await program.run(words) == code)
    #expect(capture.error == "Error: \(message)\n")
    #expect(capture.out == "")
  }

  @Test(arguments: ["get", "del"])
  func whatATimeoutHasWaitedFor(_ word: String) async {
    let result = await run("--endpoints=127.0.0.1:1", "--command-timeout=100ms", word, "k")
    #expect(result.code == 1 && result.out == "")
    let lines = result.error.split(separator: "\n")
    #expect(lines.last == "Error: context deadline exceeded")
    #expect(lines.first?.contains("connect: connection refused") == true)
  }

  @Test func aLoginThatFindsNobodySaysWhy() async {
    let result = await run(
      "--user=u:p", "--endpoints=127.0.0.1:1", "--dial-timeout=50ms", "get", "k")
    #expect(result.code == 2)
    #expect(result.error.contains("connect: connection refused"))
    #expect(result.error.hasSuffix("\nError: context deadline exceeded\n"))
  }

  @Test func unknownWords() async {
    let unknown = await run("c")
    #expect(unknown.code == 1)
    #expect(
      unknown.error == "Error: unknown command \"c\" for \"etcdctl\"\n\nDid you mean this?\n"
        + "\tcompaction\n\tcheck\n\tcompletion\n\nRun 'etcdctl --help' for usage.\n")
    #expect(
      await run("nosuch").error
        == "Error: unknown command \"nosuch\" for \"etcdctl\"\nRun 'etcdctl --help' for usage.\n")
    let group = await run("lease", "bogus")
    #expect(group.code == 0 && group.out.contains("keep-alive"))
    let flag = await run("get", "--bogus", "k")
    #expect(flag.code == 1 && flag.out == "")
    #expect(flag.error.hasPrefix("Error: unknown flag: --bogus\nUsage:\n"))
  }

  @Test func wordsWithoutACluster() async {
    #expect(await run("version").out == "etcdctl version: 3.7.1\nAPI version: 3.7\n")
    #expect(
      await run("options").out.hasPrefix("The following options can be passed to any command:\n\n"))
    let help = await run("help", "get")
    #expect(help.out == (await run("get", "--help")).out)
    #expect(help.out.contains("--print-value-only"))
    let topic = await run("help", "nosuch")
    #expect(topic.code == 0 && topic.error.hasPrefix("Unknown help topic [`nosuch`]\n"))
  }

  @Test func theEnvironment() async {
    let conflict = await run(
      "--endpoints=a:1", "get", "k", environment: ["ETCDCTL_ENDPOINTS": ""])
    #expect(conflict.code == 1 && conflict.out == "")
    #expect(conflict.error.contains("conflicting environment variable is shadowed by"))
    #expect(conflict.error.contains("\"environment-variable\":\"ETCDCTL_ENDPOINTS\""))
    let unknown = await run(
      "get", "k", environment: ["ETCDCTL_API": "3", "ETCDCTL_WRITE_OUT": "bogus"])
    #expect(unknown.code == 4)
    #expect(
      unknown.error.contains(
        "\"msg\":\"unrecognized environment variable\",\"environment-variable\":\"ETCDCTL_API=3\""))
  }
}
