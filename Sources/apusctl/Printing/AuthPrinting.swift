// Users, roles and permissions in every form.

import EtcdAPI
import EtcdClient
import FoundationEssentials
import SwiftProtobuf

extension CallOptions {
  /// As in etcdctl, commands about users and roles wait for as long as it takes.
  static let patient = CallOptions(timeout: .never)
}

extension Session {
  /// What a change prints: a sentence, or the header.
  func show(
    _ sentence: String, _ header: Etcdserverpb_ResponseHeader, _ response: some Message
  ) throws(CommandFailure) {
    try show(
      simple: { $0.sentence(sentence) },
      json: { JSONPrinter.headerOnly(header, isPresent: true) }, fields: { $0.header(header) },
      protobuf: response)
  }
}

extension SimplePrinter {
  mutating func sentence(_ text: String) { self.line(RawText.bytes(text)) }

  mutating func names(_ names: [String]) {
    for name in names { line(Array(name.utf8)) }
  }

  mutating func authStatus(_ response: Etcdserverpb_AuthStatusResponse) {
    sentence("Authentication Status: \(response.enabled)")
    sentence("AuthRevision: \(response.authRevision)")
  }

  mutating func user(_ name: String, _ response: Etcdserverpb_AuthUserGetResponse) {
    sentence("User: \(name)")
    sentence("Roles:" + response.roles.map { " " + $0 }.joined())
  }

  mutating func role(_ name: String, _ response: Etcdserverpb_AuthRoleGetResponse) {
    sentence("Role \(name)")
    sentence("KV Read:")
    for permission in response.perm where permission.permType != .write {
      line([9] + Self.range(permission))
    }
    sentence("KV Write:")
    for permission in response.perm where permission.permType != .read {
      line([9] + Self.range(permission))
    }
  }

  private static func range(_ permission: Authpb_Permission) -> [UInt8] {
    let (key, end) = (permission.key, permission.rangeEnd)
    guard !end.isEmpty else { return Array(key) }
    var text = interval(key, end)
    if !key.isEmpty, KeyRange.end(ofPrefix: key) == end {
      text += Array(" (prefix ".utf8) + Array(key) + Array(")".utf8)
    }
    return text
  }

  /// Without a closing bracket if it is open, as etcdctl prints it.
  private static func interval(_ key: Data, _ end: Data) -> [UInt8] {
    let start = Array("[".utf8) + Array(key) + Array(", ".utf8)
    return start + (end == KeyRange.zero ? Array("<open ended>".utf8) : Array(end) + [0x29])
  }

  mutating func permissionRevoked(_ request: Etcdserverpb_AuthRoleRevokePermissionRequest) {
    let what =
      request.rangeEnd.isEmpty
      ? Array("key ".utf8) + Array(request.key)
      : Array("range ".utf8) + Self.interval(request.key, request.rangeEnd)
    line(
      Array("Permission of ".utf8) + what
        + Array(" is revoked from role \(request.role)".utf8))
  }
}

extension JSONPrinter {
  private static func object(_ header: Etcdserverpb_ResponseHeader) -> JSONObject {
    var object = JSONObject()
    object.raw("header", Self.header(header))
    return object
  }

  static func authStatus(_ response: Etcdserverpb_AuthStatusResponse) -> String {
    var object = object(response.header)
    object.nonZero("enabled", response.enabled)
    object.nonZero("authRevision", response.authRevision)
    return object.closed
  }

  static func user(_ response: Etcdserverpb_AuthUserGetResponse) -> String {
    var object = object(response.header)
    object.nonZero("roles", array: response.roles.map(JSON.string))
    return object.closed
  }

  static func users(_ response: Etcdserverpb_AuthUserListResponse) -> String {
    var object = object(response.header)
    object.nonZero("users", array: response.users.map(JSON.string))
    return object.closed
  }

  static func roles(_ response: Etcdserverpb_AuthRoleListResponse) -> String {
    var object = object(response.header)
    object.nonZero("roles", array: response.roles.map(JSON.string))
    return object.closed
  }

  static func role(_ response: Etcdserverpb_AuthRoleGetResponse) -> String {
    var object = object(response.header)
    object.nonZero(
      "perm",
      array: response.perm.map { permission in
        var object = JSONObject()
        object.nonZero("permType", permission.permType.rawValue)
        object.nonZero("key", bytes: permission.key)
        object.nonZero("range_end", bytes: permission.rangeEnd)
        return object.closed
      })
    return object.closed
  }
}

extension FieldsPrinter {
  mutating func roles(_ response: Etcdserverpb_AuthRoleListResponse) {
    header(response.header)
    line("\"Roles\" :" + response.roles.map { " " + GoText.quote($0) }.joined())
  }

  mutating func role(_ response: Etcdserverpb_AuthRoleGetResponse) {
    header(response.header)
    for permission in response.perm {
      // Two blanks, as etcdctl prints it.
      line("\"PermType\" :  \(Self.name(permission.permType))")
      line("\"Key\" : \(GoText.quote(permission.key))")
      line("\"RangeEnd\" : \(GoText.quote(permission.rangeEnd))")
    }
  }

  private static func name(_ type: Authpb_Permission.TypeEnum) -> String {
    switch type {
    case .read: "READ"
    case .write: "WRITE"
    case .readwrite: "READWRITE"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }
}
