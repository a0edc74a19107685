// What commands such as `launcher stop` say to the launcher of the cluster: one JSON line each.

/// What can be asked of a running launcher.
enum ControlVerb: String, CaseIterable, Sendable {
  case status, stop, kill, restart, pause, resume, add, remove, replace
}

/// On whose behalf a cluster with authentication is asked. It passes the control socket, which only its
/// owner may open, and is not kept.
struct ClusterUser: Equatable, Sendable {
  let name: String
  let password: String
}

/// A request; the client sends one per connection.
struct ControlRequest: Equatable, Sendable {
  let verb: ControlVerb
  /// Names in the user's order; empty with `isAll` for every member.
  let members: [String]
  let isAll: Bool
  /// Addresses of a member to be added; nil = those of the file, or free ones.
  let clientURL: String?
  let peerURL: String?
  /// A member to be added stays a learner.
  let isLearner: Bool
  let user: ClusterUser?

  /// The longest request line, so that nobody can fill the launcher's memory.
  static let bytesMax = 64 * 1024

  init(
    _ verb: ControlVerb, members: [String] = [], isAll: Bool = false, clientURL: String? = nil,
    peerURL: String? = nil, isLearner: Bool = false, user: ClusterUser? = nil
  ) {
    self.verb = verb
    self.members = members
    self.isAll = isAll
    self.clientURL = clientURL
    self.peerURL = peerURL
    self.isLearner = isLearner
    self.user = user
  }

  var line: String {
    var fields: [JSONValue.Member] = [
      .init("verb", .string(verb.rawValue)),
      .init("members", .array(members.map { .string($0) })),
      .init("all", .bool(isAll)),
    ]
    if let clientURL { fields.append(.init("client-url", .string(clientURL))) }
    if let peerURL { fields.append(.init("peer-url", .string(peerURL))) }
    if isLearner { fields.append(.init("learner", .bool(true))) }
    if let user {
      fields.append(.init("user", .string(user.name)))
      fields.append(.init("password", .string(user.password)))
    }
    return JSONValue.object(fields).compactText + "\n"
  }

  /// - Throws: ``ControlError`` in words for the client's user.
  init(parsing line: String) throws(ControlError) {
    guard let json = JSONValue(parsing: line), let word = json["verb"]?.text else {
      throw ControlError("the launcher did not understand the request")
    }
    guard let verb = ControlVerb(rawValue: word) else {
      throw ControlError("the launcher that runs the cluster does not know \"\(word)\"")
    }
    self.verb = verb
    members = (json["members"]?.elements ?? []).compactMap(\.text)
    isAll = json["all"]?.flag ?? false
    clientURL = json["client-url"]?.text
    peerURL = json["peer-url"]?.text
    isLearner = json["learner"]?.flag ?? false
    user = json["user"]?.text.map {
      ClusterUser(name: $0, password: json["password"]?.text ?? "")
    }
  }
}

/// A request failed; the text is for the user.
struct ControlError: Error, Equatable, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// An answer: any number of notes, then one of the others.
enum ControlReply: Equatable, Sendable {
  /// Something that has been done.
  case note(String)
  case status(ClusterReport)
  case done
  case failed(String)

  var isFinal: Bool {
    if case .note = self { false } else { true }
  }

  var line: String {
    let member: JSONValue.Member =
      switch self {
      case .note(let text): .init("note", .string(text))
      case .status(let report): .init("status", report.json)
      case .done: .init("done", .bool(true))
      case .failed(let text): .init("error", .string(text))
      }
    return JSONValue.object([member]).compactText + "\n"
  }

  init?(parsing line: String) {
    guard let json = JSONValue(parsing: line) else { return nil }
    if let text = json["note"]?.text {
      self = .note(text)
    } else if let text = json["error"]?.text {
      self = .failed(text)
    } else if let report = json["status"].flatMap(ClusterReport.init(json:)) {
      self = .status(report)
    } else if json["done"]?.flag == true {
      self = .done
    } else {
      return nil
    }
  }
}
