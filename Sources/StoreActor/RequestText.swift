public import Base
import EtcdAPI
import FoundationEssentials
public import RaftActor
import SwiftProtobuf

/// Requests as log lines show them: in the form of etcd's lines, keys in full, of values only the size,
/// and nothing at all of what users and roles send.
public enum RequestText {
  private static let charactersMax = 2048

  /// A log entry, for the line about a slow apply.
  public static func entry(_ entry: Entry) -> String {
    guard case .request(let envelope)? = try? EntryPayload(entry.data), let kind = envelope.kind
    else { return "index:\(entry.index)" }
    let body = Bytes(entry.data[envelope.payload])
    return bounded("header:<ID:\(envelope.requestID) > \(name(kind)):<\(text(kind, body)) >")
  }

  /// The message of a client's call.
  public static func request(_ kind: InternalRequestEnvelope.Kind, _ message: Bytes) -> String {
    bounded(text(kind, message))
  }

  /// A client's request in the data of the entry that it has become; nil if there is none.
  public static func request(inEntry data: Bytes) -> String? {
    guard case .request(let envelope)? = try? EntryPayload(data), let kind = envelope.kind
    else { return nil }
    return request(kind, Bytes(data[envelope.payload]))
  }

  private static func bounded(_ text: String) -> String {
    text.count > charactersMax ? text.prefix(charactersMax) + "..." : text
  }

  private static func name(_ kind: InternalRequestEnvelope.Kind) -> String {
    switch kind {
    case .deleteRange: "delete_range"
    case .leaseGrant: "lease_grant"
    case .leaseRevoke: "lease_revoke"
    case .leaseCheckpoint: "lease_checkpoint"
    case .clusterVersionSet: "cluster_version_set"
    case .clusterMemberAttributesSet: "cluster_member_attr_set"
    default: "\(kind)"
    }
  }

  private static func text(_ kind: InternalRequestEnvelope.Kind, _ body: Bytes) -> String {
    do {
      switch kind {
      case .put: return put(try Etcdserverpb_PutRequest(serializedBytes: body))
      case .range: return range(try Etcdserverpb_RangeRequest(serializedBytes: body))
      case .deleteRange:
        return deleteRange(try Etcdserverpb_DeleteRangeRequest(serializedBytes: body))
      case .txn: return txn(try Etcdserverpb_TxnRequest(serializedBytes: body))
      case .compaction:
        return "revision:\(try Etcdserverpb_CompactionRequest(serializedBytes: body).revision)"
      case .leaseGrant:
        let grant = try Etcdserverpb_LeaseGrantRequest(serializedBytes: body)
        return "ttl:\(grant.ttl)-second id:\(hex(grant.id))"
      case .leaseRevoke:
        return "id:\(hex(try Etcdserverpb_LeaseRevokeRequest(serializedBytes: body).id))"
      default: return "size:\(body.count)"
      }
    } catch {
      return "size:\(body.count)"
    }
  }

  private static func hex(_ id: Int64) -> String { UInt64(bitPattern: id).hex }

  private static func put(_ put: Etcdserverpb_PutRequest) -> String {
    var text = "key:\(quoted(put.key)) value_size:\(put.value.count)"
    if put.lease != 0 { text += " lease:\(put.lease)" }
    return text
  }

  private static func range(_ range: Etcdserverpb_RangeRequest) -> String {
    var text = "key:\(quoted(range.key))"
    if !range.rangeEnd.isEmpty { text += " range_end:\(quoted(range.rangeEnd))" }
    if range.limit != 0 { text += " limit:\(range.limit)" }
    if range.revision != 0 { text += " revision:\(range.revision)" }
    if range.serializable { text += " serializable:true" }
    if range.keysOnly { text += " keys_only:true" }
    if range.countOnly { text += " count_only:true" }
    return text
  }

  private static func deleteRange(_ range: Etcdserverpb_DeleteRangeRequest) -> String {
    let end = range.rangeEnd.isEmpty ? "" : " range_end:\(quoted(range.rangeEnd))"
    return "key:\(quoted(range.key))\(end)"
  }

  private static func txn(_ txn: Etcdserverpb_TxnRequest) -> String {
    let compares = txn.compare.map { "target:\($0.target) key:\(quoted($0.key))" }
    return "compare:<\(compares.joined(separator: "; "))> success:<\(operations(txn.success))> "
      + "failure:<\(operations(txn.failure))>"
  }

  private static func operations(_ operations: [Etcdserverpb_RequestOp]) -> String {
    operations.map { operation in
      switch operation.request {
      case .requestRange(let request): "request_range:<\(range(request))>"
      case .requestPut(let request): "request_put:<\(put(request))>"
      case .requestDeleteRange(let request): "request_delete_range:<\(deleteRange(request))>"
      case .requestTxn(let request): "request_txn:<\(txn(request))>"
      case nil: ""
      }
    }.joined(separator: " ")
  }

  /// Text as it is; other bytes in octal.
  private static func quoted(_ bytes: Data) -> String {
    var text = "\""
    for byte in bytes.prefix(charactersMax) {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        text += "\\" + String(UnicodeScalar(byte))
      case 0x20..<0x7f: text.unicodeScalars.append(UnicodeScalar(byte))
      default:
        let digits = String(byte, radix: 8)
        text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
      }
    }
    return text + "\""
  }
}
