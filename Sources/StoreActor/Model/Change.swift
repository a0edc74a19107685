package import Base

/// One change of one key: what a watcher is told, in the form that is stored.
package struct Change: Equatable, Sendable {
  package enum Kind: Sendable { case put, delete }

  package let kind: Kind
  package let key: Bytes
  /// Where the change stands in history; `main` is the `mod_revision` clients see.
  package let revision: Revision
  /// The key's value as an encoded mvccpb.KeyValue. For a delete: `key` and `mod_revision` only.
  package let keyValue: Bytes

  package init(kind: Kind, key: Bytes, revision: Revision, keyValue: Bytes) {
    self.kind = kind
    self.key = key
    self.revision = revision
    self.keyValue = keyValue
  }
}
