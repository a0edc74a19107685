public import Base

/// One change of one key: what a watcher is told, in the form that is stored.
public struct Change: Equatable, Sendable {
  public enum Kind: Sendable { case put, delete }

  public let kind: Kind
  public let key: Bytes
  /// Where the change stands in history; `main` is the `mod_revision` clients see.
  public let revision: Revision
  /// The key's value as an encoded mvccpb.KeyValue. For a delete: `key` and `mod_revision` only.
  public let keyValue: Bytes

  public init(kind: Kind, key: Bytes, revision: Revision, keyValue: Bytes) {
    self.kind = kind
    self.key = key
    self.revision = revision
    self.keyValue = keyValue
  }
}
