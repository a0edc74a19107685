// cluster.conf: text in, a checked cluster or every mistake out.

internal import YAML

/// The outcome of reading a cluster.conf.
struct ClusterFileOutcome {
  /// Present if there is no mistake.
  let file: ClusterFile?
  /// Mistakes and warnings, by line.
  let problems: [ConfigProblem]

  var mistakes: [ConfigProblem] { problems.filter { $0.severity == .mistake } }
}

/// Reads one file; use ``parse(_:path:)``.
struct ClusterFileParser {
  private static let topKeys = ["data-dir", "defaults", "restart", "members"]

  private let path: String
  private var problems: [ConfigProblem] = []
  /// Keys that a misspelt one was taken for, in the mapping that is being read; these do not
  /// count as missing too.
  private var meant: [String] = []
  private var dataDirectory: (path: String, line: Int)?
  private var restart = RestartPolicy.never
  private var defaults: [MemberFlag] = []
  private var members: [MemberPlan] = []

  /// - Parameter path: where the text comes from; a relative `data-dir` is seen from its folder.
  static func parse(_ text: String, path: String) -> ClusterFileOutcome {
    var parser = ClusterFileParser(path: path)
    parser.read(text)
    return parser.outcome()
  }

  private init(path: String) { self.path = path }

  private func outcome() -> ClusterFileOutcome {
    let sorted = problems.enumerated()
      .sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }
      .map(\.element)
    guard let dataDirectory, !sorted.contains(where: { $0.severity == .mistake }) else {
      return ClusterFileOutcome(file: nil, problems: sorted)
    }
    let file = ClusterFile(
      path: path, dataDirectory: Files.join(Files.folder(of: path), dataDirectory.path),
      dataDirectoryLine: dataDirectory.line, restart: restart, members: members)
    return ClusterFileOutcome(file: file, problems: sorted)
  }

  private mutating func report(_ node: YAMLNode?, _ text: String, instead: String? = nil) {
    problems.append(ConfigProblem(node?.line ?? 0, text, instead: instead))
  }

  private mutating func warn(_ line: Int, _ text: String, instead: String? = nil) {
    problems.append(ConfigProblem(line, text, instead: instead, severity: .warning))
  }

  // MARK: Top level

  private mutating func read(_ text: String) {
    let root: YAMLNode?
    do {
      root = try YAMLSource.compose(text)
    } catch {
      problems.append(error.problem)
      return
    }
    guard let root, !isNull(root) else {
      return report(nil, "the file is empty", instead: Self.example)
    }
    guard let top = root.mapping else {
      return report(root, "the file is not a list of `key: value`", instead: Self.example)
    }
    for (key, value) in top {
      switch key.text ?? "" {
      case "data-dir": readDataDirectory(value)
      case "restart": readRestart(value)
      case "defaults": readDefaults(value)
      case "members": break
      case let name: reportUnknownTopKey(key, name)
      }
    }
    if root["data-dir"] == nil && !meant.contains("data-dir") {
      report(nil, "`data-dir` is missing", instead: "data-dir: apus-data")
    }
    guard let list = root["members"] else {
      if meant.contains("members") { return }
      return report(nil, "`members` is missing", instead: Self.memberExample)
    }
    readMembers(list)
    checkAddresses()
  }

  private static let memberExample =
    "members: [{name: m1, client-url: \"http://127.0.0.1:2379\","
    + " peer-url: \"http://127.0.0.1:2380\"}]"

  private static let example = "data-dir: apus-data, and \(memberExample)"

  private mutating func reportUnknownTopKey(_ key: YAMLNode, _ name: String) {
    if let near = Spelling.nearest(to: name, among: Self.topKeys) {
      report(key, "unknown key `\(name)`, did you mean `\(near)`?", instead: "\(near):")
      meant.append(near)
    } else if KnownFlags.kind(of: name) != nil {
      report(
        key, "`\(name)` is a flag of the members", instead: "it under `defaults:`, indented")
    } else {
      report(key, "unknown key `\(name)`", instead: Self.topKeys.joined(separator: ", "))
    }
  }

  private mutating func readDataDirectory(_ node: YAMLNode) {
    guard let text = scalar(node), !text.isEmpty else {
      return report(node, "`data-dir` is not a path", instead: "data-dir: apus-data")
    }
    dataDirectory = (text, node.line)
  }

  private mutating func readRestart(_ node: YAMLNode) {
    guard let policy = scalar(node).flatMap(RestartPolicy.init) else {
      let text = scalar(node).map { " \"\($0)\"" } ?? " that"
      return report(
        node, "`restart` cannot be\(text)", instead: "restart: never, on-failure or always")
    }
    restart = policy
  }

  private mutating func readDefaults(_ node: YAMLNode) {
    if isNull(node) { return }
    guard let mapping = node.mapping else {
      return report(
        node, "`defaults` is not a list of `flag: value`", instead: "defaults: {log-level: info}")
    }
    for (key, value) in mapping {
      if ["client-url", "peer-url"].contains(key.text ?? "") {
        report(
          key, "`\(key.text ?? "")` differs between members", instead: "it under each member")
      } else if let flag = readFlag(key, value) {
        defaults.append(flag)
      }
    }
  }

  // MARK: Flags

  private mutating func readFlag(_ key: YAMLNode, _ value: YAMLNode) -> MemberFlag? {
    guard let written = key.text, !written.isEmpty else {
      report(key, "a flag's name is not text", instead: "log-level: info")
      return nil
    }
    let name = String(written.drop { $0 == "-" })
    if name != written {
      report(key, "flags stand here without dashes: `\(written)`", instead: "\(name):")
      return nil
    }
    if let reserved = KnownFlags.reserved.first(where: { $0.name == name }) {
      report(key, "the launcher sets the flag `\(name)` itself", instead: reserved.advice)
      return nil
    }
    guard let text = flagValue(value) else {
      report(value, "`\(name)` needs one value", instead: "\(name): VALUE")
      return nil
    }
    let line = key.line
    if KnownFlags.kind(of: name) == nil {
      if let near = Spelling.nearest(to: name, among: KnownFlags.names) {
        report(key, "unknown flag `\(name)`, did you mean `\(near)`?", instead: "\(near): \(text)")
        return nil
      }
      warn(line, "`\(name)` is not a flag known here; a member may refuse it")
    } else if let problem = KnownFlags.problem(flag: name, value: text) {
      report(value, problem.text, instead: problem.instead)
      return nil
    }
    return MemberFlag(name: name, value: text, line: line)
  }

  /// A scalar as it is written, or a list joined by commas.
  private func flagValue(_ node: YAMLNode) -> String? {
    if let text = scalar(node) { return text }
    guard let list = node.sequence else { return nil }
    let texts = list.map { scalar($0) }
    return texts.contains(nil) || texts.isEmpty
      ? nil : texts.compactMap(\.self).joined(separator: ",")
  }

  // MARK: Members

  private mutating func readMembers(_ node: YAMLNode) {
    guard let list = node.sequence else {
      return report(node, "`members` is not a list", instead: Self.memberExample)
    }
    if list.isEmpty {
      return report(node, "`members` is empty", instead: Self.memberExample)
    }
    var names: [(name: String, line: Int)] = []
    for element in list {
      guard let mapping = element.mapping else {
        report(element, "a member is not a list of `key: value`", instead: "- name: m1")
        continue
      }
      readMember(element, mapping, &names)
    }
    if list.count % 2 == 0 {
      warn(
        node.line,
        "\(list.count) members survive no more failures than \(list.count - 1)",
        instead: "\(list.count - 1) or \(list.count + 1) members")
    }
  }

  private mutating func readMember(
    _ node: YAMLNode, _ mapping: [(key: YAMLNode, value: YAMLNode)],
    _ names: inout [(name: String, line: Int)]
  ) {
    var name: (text: String, line: Int)?
    var client: (url: MemberURL, line: Int)?
    var peer: (url: MemberURL, line: Int)?
    var own: [MemberFlag] = []
    meant = []
    for (key, value) in mapping {
      switch key.text ?? "" {
      case "name": name = readName(value, &names)
      case "client-url": client = readURL(value, 2379)
      case "peer-url": peer = readURL(value, 2380)
      case let other:
        if let near = Spelling.nearest(to: other, among: ["name", "client-url", "peer-url"]),
          KnownFlags.kind(of: other) == nil
        {
          report(key, "unknown key `\(other)`, did you mean `\(near)`?", instead: "\(near):")
          meant.append(near)
        } else if let flag = readFlag(key, value) {
          if flag.name == "initial-cluster-token" {
            report(key, "all members share one `\(flag.name)`", instead: "it under `defaults:`")
          }
          own.append(flag)
        }
      }
    }
    let shown = name.map { "member \($0.text)" } ?? "a member"
    let required = [
      ("name", "- name: m1"), ("client-url", "client-url: http://127.0.0.1:2379"),
      ("peer-url", "peer-url: http://127.0.0.1:2380"),
    ]
    for (key, instead) in required where node[key] == nil && !meant.contains(key) {
      report(node, "\(key == "name" ? "a member" : shown) has no `\(key)`", instead: instead)
    }
    guard let name, let client, let peer else { return }
    let flags = defaults.filter { flag in !own.contains { $0.name == flag.name } } + own
    members.append(
      MemberPlan(
        name: name.text, line: node.line, clientURL: client.url,
        clientURLLine: client.line, peerURL: peer.url, peerURLLine: peer.line, flags: flags))
  }

  private mutating func readName(
    _ node: YAMLNode, _ names: inout [(name: String, line: Int)]
  ) -> (text: String, line: Int)? {
    guard let name = scalar(node), !name.isEmpty else {
      report(node, "a member's `name` is empty", instead: "name: m1")
      return nil
    }
    if !Self.isUsable(name) {
      report(
        node, "`\(name)` cannot be a name: it names the member's folder too",
        instead: "a name of letters, digits, - and _, such as m1")
      return nil
    }
    let line = node.line
    if let earlier = names.first(where: { $0.name == name }) {
      report(
        node, "the name `\(name)` is taken in line \(earlier.line)",
        instead: "name: \(Self.freeName(names.map(\.name)))")
      return nil
    }
    names.append((name, line))
    return (name, line)
  }

  /// Of files and folders that the launcher puts beside the members' data.
  private static let ownEndings = ["log", "sock", "lock", "json", "1", "new", "removed"]

  private static func isUsable(_ name: String) -> Bool {
    let allowed = name.unicodeScalars.allSatisfy { scalar in
      scalar.isASCII
        && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil
          || scalar == "-" || scalar == "_" || scalar == ".")
    }
    let ending = name.split(separator: ".").last.map(String.init) ?? ""
    let isOurs = name.contains(".") && Self.ownEndings.contains(ending)
    return allowed && !isOurs && !name.hasPrefix(".") && !name.hasPrefix("-")
  }

  private static func freeName(_ taken: [String]) -> String {
    var number = taken.count + 1
    while taken.contains("m\(number)") { number += 1 }
    return "m\(number)"
  }

  private mutating func readURL(_ node: YAMLNode, _ port: UInt16) -> (url: MemberURL, line: Int)? {
    guard let text = scalar(node), !text.isEmpty else {
      report(node, "this is not a URL", instead: "http://127.0.0.1:\(port)")
      return nil
    }
    do {
      return (try MemberURL(parsing: text, defaultPort: port), node.line)
    } catch {
      report(node, error.text, instead: error.instead)
      return nil
    }
  }

  // MARK: Addresses

  private mutating func checkAddresses() {
    var taken: [(url: MemberURL, what: String, line: Int)] = []
    for member in members {
      let own = [
        (member.clientURL, "client-url", member.clientURLLine),
        (member.peerURL, "peer-url", member.peerURLLine),
      ]
      for (url, key, line) in own {
        if let other = taken.first(where: { Self.collide($0.url, url) }) {
          let instead = MemberURL(
            scheme: url.scheme, host: url.host, port: freePort(after: url.port))
          let text = "port \(url.port) is used by \(other.what) in line \(other.line) already"
          problems.append(ConfigProblem(line, text, instead: "\(key): \(instead.text)"))
        }
        if url.isWildcard {
          let name = key == "client-url" ? "clients" : "the other members"
          warn(
            line, "\(name) are told to connect to \(url.host)",
            instead: "\(key): \(url.scheme.rawValue)://127.0.0.1:\(url.port)")
        }
        taken.append((url, "\(key) of \(member.name)", line))
      }
    }
  }

  private static func collide(_ a: MemberURL, _ b: MemberURL) -> Bool {
    func canonical(_ host: String) -> String { host == "localhost" ? "127.0.0.1" : host }
    guard a.port == b.port else { return false }
    return canonical(a.host) == canonical(b.host) || a.isWildcard || b.isWildcard
  }

  private func freePort(after port: UInt16) -> UInt16 {
    let used = members.flatMap { [$0.clientURL.port, $0.peerURL.port] }
    return (1...200).lazy.map { port &+ UInt16($0) * 10 }
      .first { $0 > 1024 && !used.contains($0) } ?? port
  }

  // MARK: Nodes

  /// A plain value as it is written; nil for lists, mappings and null.
  private func scalar(_ node: YAMLNode) -> String? {
    isNull(node) ? nil : node.text
  }

  private func isNull(_ node: YAMLNode) -> Bool { node.scalar?.meaning == .null }
}
