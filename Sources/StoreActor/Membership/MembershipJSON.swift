public import Base
import FoundationEssentials

/// The JSON context of a membership change.
public struct MemberContext: Equatable, Sendable {
  public let record: MemberRecord
  /// Tells a promotion from an addition: the kind of change is the same.
  public let isPromote: Bool

  public init(record: MemberRecord, isPromote: Bool = false) {
    self.record = record
    self.isPromote = isPromote
  }

  public init(decoding json: Bytes) throws(MembershipError) {
    do {
      let decoded = try JSONDecoder().decode(Wire.self, from: Data(json))
      record = decoded.record
      isPromote = decoded.isPromote ?? false
    } catch {
      throw .malformed("\(error)")
    }
  }

  public func encoded() -> Bytes {
    MemberRecord.json(
      id: record.id, peerURLs: isPromote ? nil : record.peerURLs, name: record.name,
      clientURLs: record.clientURLs, isLearner: record.isLearner, isPromote: isPromote)
  }

  fileprivate struct Wire: Decodable {
    var id: UInt64
    var peerURLs: [String]?
    var name: String?
    var clientURLs: [String]?
    var isLearner: Bool?
    var isPromote: Bool?

    var record: MemberRecord {
      MemberRecord(
        id: id, peerURLs: peerURLs ?? [], name: name ?? "", clientURLs: clientURLs ?? [],
        isLearner: isLearner ?? false)
    }
  }
}

extension MemberRecord {
  /// etcd's JSON of a member: empty fields left out, the id a decimal number.
  public func encodedJSON() -> Bytes {
    Self.json(
      id: id, peerURLs: peerURLs, name: name, clientURLs: clientURLs, isLearner: isLearner,
      isPromote: false)
  }

  public init(decodingJSON json: Bytes) throws(MembershipError) {
    self = try MemberContext(decoding: json).record
  }

  fileprivate static func json(
    id: MemberID, peerURLs: [String]?, name: String, clientURLs: [String], isLearner: Bool,
    isPromote: Bool
  ) -> Bytes {
    var text = "{\"id\":\(id),\"peerURLs\":\(peerURLs.map(JSONText.array) ?? "null")"
    if isLearner { text += ",\"isLearner\":true" }
    if !name.isEmpty { text += ",\"name\":\(JSONText.string(name))" }
    if !clientURLs.isEmpty { text += ",\"clientURLs\":\(JSONText.array(clientURLs))" }
    if isPromote { text += ",\"isPromote\":true" }
    return Bytes((text + "}").utf8)
  }
}

extension DowngradeInfo {
  /// etcd's JSON.
  public func encodedJSON() -> Bytes {
    Bytes(
      "{\"target-version\":\(JSONText.string(targetVersion)),\"enabled\":\(isEnabled)}".utf8)
  }

  public init(decodingJSON json: Bytes) throws {
    let wire = try JSONDecoder().decode(Wire.self, from: Data(json))
    self.init(isEnabled: wire.enabled ?? false, targetVersion: wire.targetVersion ?? "")
  }

  private struct Wire: Decodable {
    var targetVersion: String?
    var enabled: Bool?

    enum CodingKeys: String, CodingKey {
      case targetVersion = "target-version"
      case enabled
    }
  }
}

/// The membership as etcd's old v2 store: what 3.4 to 3.6 members want beside a snapshot.
extension Membership {
  public func v2StoreJSON() -> Bytes {
    var children = members.map { member in
      let id = member.id.hex
      var raft = "{\"peerURLs\":\(JSONText.array(member.peerURLs))"
      raft += member.isLearner ? ",\"isLearner\":true}" : "}"
      var leaves = [V2Node.leaf("/0/members/\(id)/raftAttributes", raft)]
      if !member.name.isEmpty {
        let attributes =
          "{\"name\":\(JSONText.string(member.name)),"
          + "\"clientURLs\":\(JSONText.array(member.clientURLs))}"
        leaves.append(.leaf("/0/members/\(id)/attributes", attributes))
      }
      return V2Node.directory("/0/members/\(id)", leaves)
    }
    children = [.directory("/0/members", children)]
    children.append(
      .directory(
        "/0/removed_members",
        removed.map { .leaf("/0/removed_members/\($0.hex)", "removed") }))
    if let clusterVersion { children.append(.leaf("/0/version", clusterVersion)) }
    let root = V2Node.directory(
      "/", [.directory("/0", children), .directory("/1", [])])
    return Bytes("{\"Root\":\(root.json),\"CurrentIndex\":1,\"CurrentVersion\":2}".utf8)
  }

  /// Reads the membership out of a v2 store. Nodes of other kinds are ignored.
  public init(decodingV2Store json: Bytes) throws(MembershipError) {
    do {
      let store = try JSONDecoder().decode(V2Store.self, from: Data(json))
      let tree = store.root.children?["0"]?.children ?? [:]
      let members = try (tree["members"]?.children ?? [:]).compactMap { name, node in
        try Self.member(name: name, node: node)
      }
      let removed = (tree["removed_members"]?.children ?? [:]).keys.compactMap {
        MemberID($0, radix: 16)
      }
      self.init(members: members, removed: removed, clusterVersion: tree["version"]?.value)
    } catch {
      throw .malformed("\(error)")
    }
  }

  private static func member(name: String, node: V2Store.Node) throws -> MemberRecord? {
    guard let id = MemberID(name, radix: 16) else { return nil }
    var record = MemberRecord(id: id, peerURLs: [])
    if let text = node.children?["raftAttributes"]?.value {
      let raft = try JSONDecoder().decode(V2Store.RaftAttributes.self, from: Data(text.utf8))
      record.peerURLs = raft.peerURLs ?? []
      record.isLearner = raft.isLearner ?? false
    }
    if let text = node.children?["attributes"]?.value {
      let attributes = try JSONDecoder().decode(V2Attributes.self, from: Data(text.utf8))
      record.name = attributes.name ?? ""
      record.clientURLs = attributes.clientURLs ?? []
    }
    return record
  }
}

/// What a member publishes about itself in the v2 form.
public struct V2Attributes: Decodable, Sendable {
  public var name: String?
  public var clientURLs: [String]?

  public init(decoding json: Bytes) throws(MembershipError) {
    do {
      self = try JSONDecoder().decode(V2Attributes.self, from: Data(json))
    } catch {
      throw .malformed("\(error)")
    }
  }
}

private struct V2Node {
  let json: String
  let name: String

  static func leaf(_ path: String, _ value: String) -> V2Node {
    V2Node(json: node(path, value: value, children: "null"), name: lastComponent(path))
  }

  static func directory(_ path: String, _ children: [V2Node]) -> V2Node {
    let inner = children.map { "\(JSONText.string($0.name)):\($0.json)" }.joined(separator: ",")
    return V2Node(json: node(path, value: "", children: "{\(inner)}"), name: lastComponent(path))
  }

  private static func node(_ path: String, value: String, children: String) -> String {
    "{\"Path\":\(JSONText.string(path)),\"CreatedIndex\":1,\"ModifiedIndex\":1,"
      + "\"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\(JSONText.string(value)),"
      + "\"Children\":\(children)}"
  }

  private static func lastComponent(_ path: String) -> String {
    String(path.split(separator: "/").last ?? "")
  }
}

private struct V2Store: Decodable {
  struct Node: Decodable {
    var value: String?
    var children: [String: Node]?

    enum CodingKeys: String, CodingKey {
      case value = "Value"
      case children = "Children"
    }
  }

  struct RaftAttributes: Decodable {
    var peerURLs: [String]?
    var isLearner: Bool?
  }

  var root: Node

  enum CodingKeys: String, CodingKey { case root = "Root" }
}
