internal import YAML

/// Reads etcd's configuration file into flag values.
///
/// Keys are case-insensitive and equal the flags' names but for three groups that are nested;
/// unknown keys are ignored without a word, as etcd does. Durations are integers in nanoseconds,
/// or Go's text form.
enum ConfigurationFile {
  /// Flags that have no key in a file.
  private static let withoutKey: Set<String> = [
    "client-crl-file", "peer-crl-file", "raft-read-timeout", "raft-write-timeout", "version",
    "config-file", "socket-reuse-port", "socket-reuse-address",
  ]

  /// Names of groups, and the flag behind each key in them.
  private static let groups: [String: [String: String]] = [
    "socket-options": [
      "reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address",
    ],
    "client-transport-security": [
      "cert-file": "cert-file", "key-file": "key-file", "client-cert-file": "client-cert-file",
      "client-key-file": "client-key-file", "client-cert-auth": "client-cert-auth",
      "trusted-ca-file": "trusted-ca-file", "auto-tls": "auto-tls",
      "allowed-hostname": "client-cert-allowed-hostname",
    ],
    "peer-transport-security": [
      "cert-file": "peer-cert-file", "key-file": "peer-key-file",
      "client-cert-file": "peer-client-cert-file", "client-key-file": "peer-client-key-file",
      "client-cert-auth": "peer-client-cert-auth", "trusted-ca-file": "peer-trusted-ca-file",
      "auto-tls": "peer-auto-tls", "allowed-cn": "peer-cert-allowed-cn",
      "allowed-hostname": "peer-cert-allowed-hostname",
      "skip-client-san-verification": "peer-skip-client-san-verification",
    ],
    "discovery-config": ["token": "discovery-token"],
    "discovery-config.client": [
      "endpoints": "discovery-endpoints", "dial-timeout": "discovery-dial-timeout",
      "request-timeout": "discovery-request-timeout",
      "keepalive-time": "discovery-keepalive-time",
      "keepalive-timeout": "discovery-keepalive-timeout",
    ],
    "discovery-config.client.secure": [
      "cert": "discovery-cert", "key": "discovery-key", "cacert": "discovery-cacert",
      "insecure-transport": "discovery-insecure-transport",
      "insecure-skip-tls-verify": "discovery-insecure-skip-tls-verify",
    ],
    "discovery-config.client.auth": [
      "username": "discovery-user", "password": "discovery-password",
    ],
  ]

  /// Keys that lie in a group of their own top-level key only.
  private static let groupedFlags: Set<String> = Set(groups.values.flatMap(\.values))

  enum Failure: Error, Equatable {
    /// To be logged, as the other refusals are.
    case logged(ConfigurationError)
    /// A plain line for standard error: so etcd reports bad URLs in a file.
    case line(String)
  }

  /// - Throws: ``Failure`` in etcd's words. The first wrong key in file order is named.
  static func read(_ text: String, into values: inout FlagValues) throws(Failure) {
    let root: YAMLNode?
    do { root = try YAMLDocument.root(of: text) } catch {
      let place = error.line > 0 ? "line \(error.line): " : ""
      throw .logged(.init("error converting YAML to JSON: yaml: \(place)\(error.problem)"))
    }
    guard let root, !root.isNull else { return }
    guard let mapping = root.mapping else {
      throw unmarshal("json: cannot unmarshal \(root.jsonType) into Go value of type configYAML")
    }
    try read(mapping, group: "", into: &values)
  }

  private static func read(
    _ mapping: [(key: YAMLNode, value: YAMLNode)], group: String, into values: inout FlagValues
  ) throws(Failure) {
    for (keyNode, node) in mapping {
      guard let key = keyNode.text?.lowercased(), !node.isNull else { continue }
      let path = group.isEmpty ? key : "\(group).\(key)"
      if groups[path] != nil || path == "discovery-config" {
        guard let nested = node.mapping else {
          throw unmarshal(mismatch(node.jsonType, path, "object"))
        }
        try read(nested, group: path, into: &values)
      } else if path == "client-transport-security.allowed-cn" {
        values.clientAllowedCommonNames = try words(node, path)
      } else if let flag = flag(for: key, in: group), let spec = FlagTable.spec(named: flag) {
        try set(spec, path, node, into: &values)
      }
    }
  }

  private static func flag(for key: String, in group: String) -> String? {
    if !group.isEmpty { return groups[group]?[key] }
    if withoutKey.contains(key) || groupedFlags.contains(key) { return nil }
    return FlagTable.spec(named: key)?.name
  }

  private static func set(
    _ spec: FlagSpec, _ path: String, _ node: YAMLNode, into values: inout FlagValues
  ) throws(Failure) {
    let text = try flagText(spec, path, node)
    // An empty text is Go's zero value: etcd keeps its default for URL lists then.
    if case .urls = spec.kind, text.isEmpty { return }
    do {
      values.set(spec.name, to: try FlagValue(text, kind: kind(spec)))
    } catch {
      switch spec.kind {
      case .urls: throw .line("unexpected error setting up \(reportedName(spec)): \(error)\n")
      case .gates: throw .logged(.init(error.description))
      default: throw unmarshal(mismatch("\(node.jsonType) \(text)", path, goType(spec)))
      }
    }
  }

  /// etcd reports this one key under another name; scripts know it so.
  private static func reportedName(_ spec: FlagSpec) -> String {
    spec.name == "advertise-client-urls" ? "advertise-peer-urls" : spec.name
  }

  /// In a file the cluster state is checked later, with its own text.
  private static func kind(_ spec: FlagSpec) -> FlagSpec.Kind {
    if case .choice = spec.kind { return .text }
    return spec.kind
  }

  /// The node as the text the flag would have on a command line.
  private static func flagText(_ spec: FlagSpec, _ path: String, _ node: YAMLNode)
    throws(Failure) -> String
  {
    func wrongType() -> Failure {
      unmarshal(mismatch(node.jsonType, path, goType(spec)))
    }
    if case .words = spec.kind, let sequence = node.sequence {
      var words: [String] = []
      for element in sequence {
        guard let word = element.text else { throw wrongType() }
        words.append(word)
      }
      return words.joined(separator: ",")
    }
    guard let scalar = node.text else { throw wrongType() }
    switch spec.kind {
    case .duration:
      if let nanoseconds = node.integer { return "\(nanoseconds)ns" }
      return scalar
    case .bool:
      guard let value = node.jsonBool else { throw wrongType() }
      return value ? "true" : "false"
    case .unsigned, .unsigned32, .signed:
      guard let value = node.integer else { throw wrongType() }
      return String(value)
    default: return scalar
    }
  }

  private static func words(_ node: YAMLNode, _ path: String) throws(Failure) -> [String] {
    var words: [String] = []
    for element in node.sequence ?? [node] {
      guard let word = element.text else {
        throw unmarshal(mismatch(node.jsonType, path, "[]string"))
      }
      words.append(word)
    }
    return words
  }

  private static func goType(_ spec: FlagSpec) -> String {
    switch spec.kind {
    case .text, .urls, .choice, .gates: "string"
    case .words: "[]string"
    case .bool: "bool"
    case .unsigned: "uint64"
    case .unsigned32: "uint32"
    case .signed: "int64"
    case .duration: "time.Duration"
    }
  }

  private static func mismatch(_ found: String, _ path: String, _ type: String) -> String {
    "json: cannot unmarshal \(found) into Go struct field configYAML.\(path) of type \(type)"
  }

  private static func unmarshal(_ reason: String) -> Failure {
    .logged(ConfigurationError("error unmarshaling JSON: while decoding JSON: \(reason)"))
  }
}

extension YAMLNode {
  fileprivate var isNull: Bool { scalar?.meaning == .null }

  fileprivate var jsonBool: Bool? {
    if case .bool(let value) = scalar?.meaning { value } else { nil }
  }

  fileprivate var integer: Int? {
    if case .integer(let value) = scalar?.meaning { value } else { nil }
  }

  /// What the value becomes in JSON, in the words of Go's decoder.
  fileprivate var jsonType: String {
    switch value {
    case .mapping: "object"
    case .sequence: "array"
    case .scalar(let scalar):
      switch scalar.meaning {
      case .bool: "bool"
      case .integer, .float: "number"
      case .null, .text: "string"
      }
    }
  }
}
