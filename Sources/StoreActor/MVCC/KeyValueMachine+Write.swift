public import Base
public import EtcdAPI
import FoundationEssentials

extension KeyValueMachine {
  /// Applies a put.
  ///
  /// - Throws: `leaseNotFound`, then `keyNotFound` (ignore flags on an absent key).
  public mutating func put(
    _ put: PutOperation, leaseExists: (LeaseID) -> Bool, effects: inout ApplyEffects
  ) throws(KVError) -> PutResult {
    if put.lease != 0 && !leaseExists(put.lease) { throw .leaseNotFound }
    if put.ignoreValue || put.ignoreLease {
      guard index.state(of: put.key) != nil else { throw .keyNotFound }
    }
    var step = WriteStep(after: currentRevision)
    let result = applyPut(put, step: &step, effects: &effects)
    currentRevision = step.main
    return result
  }

  /// Applies a delete. Deleting nothing succeeds and leaves the revision as it is.
  public mutating func deleteRange(
    _ request: Etcdserverpb_DeleteRangeRequest, effects: inout ApplyEffects
  ) -> DeleteRangeResult {
    var step = WriteStep(after: currentRevision)
    let result = applyDelete(request, step: &step, effects: &effects)
    currentRevision = step.visible
    return result
  }

  /// Deletes the keys of a revoked or expired lease in one revision.
  ///
  /// - Parameter keys: in byte order (precondition); absent ones are passed over.
  /// - Returns: the current revision afterwards; unchanged if no key existed.
  @discardableResult
  public mutating func revokeKeys(_ keys: [Bytes], effects: inout ApplyEffects) -> Int64 {
    precondition(
      zip(keys, keys.dropFirst()).allSatisfy { $0.precedes($1) }, "keys must be in byte order")
    var step = WriteStep(after: currentRevision)
    for key in keys {
      let location = index.find(key)
      guard index.state(at: location) != nil else { continue }
      bury(key, at: location, step: &step, effects: &effects)
    }
    currentRevision = step.visible
    return currentRevision
  }

  // MARK: - Steps

  /// Writes one key. An ignore flag whose key has been deleted earlier in the same transaction (which
  /// validation misses for deletes without upper bound) acts as if the old value were empty.
  mutating func applyPut(
    _ put: PutOperation, step: inout WriteStep, effects: inout ApplyEffects
  ) -> PutResult {
    let key = put.key
    let location = index.find(key)
    var old: Bytes?
    var oldLease: LeaseID = 0
    if let state = index.state(at: location),
      state.isLeased || put.prevKv || put.ignoreValue
    {
      let record = store.record(at: state.revision)
      if state.isLeased { oldLease = StoredKeyValue(record).lease }
      old = record
    }
    let lease = put.ignoreLease ? oldLease : put.lease
    let revision = step.next()
    let state = index.put(key, at: location, revision: revision, isLeased: lease != 0)
    let record = Self.record(
      state, put: put, keeping: put.ignoreValue ? old : nil, lease: lease)
    store.append(revision, isTombstone: false, record: record)
    if oldLease != lease {
      if oldLease != 0 { effects.leases.append(.detach(oldLease, key: key)) }
      if lease != 0 { effects.leases.append(.attach(lease, key: key)) }
    }
    effects.changes.append(Change(kind: .put, key: key, revision: revision, keyValue: record))
    return PutResult(revision: revision.main, previous: put.prevKv ? old : nil)
  }

  private static func record(
    _ state: KeyState, put: PutOperation, keeping old: Bytes?, lease: LeaseID
  ) -> Bytes {
    func encode(_ value: UnsafeRawBufferPointer) -> Bytes {
      put.key.withUnsafeBytes {
        StoredKeyValue.encode(
          key: $0, createRevision: state.created, modRevision: state.revision.main,
          version: state.version, value: value, lease: lease)
      }
    }
    guard let old else { return put.value.withUnsafeBytes { encode($0) } }
    let fields = StoredKeyValue(old)
    return old.withUnsafeBytes { encode(UnsafeRawBufferPointer(rebasing: $0[fields.value])) }
  }

  mutating func applyDelete(
    _ request: Etcdserverpb_DeleteRangeRequest, step: inout WriteStep,
    effects: inout ApplyEffects
  ) -> DeleteRangeResult {
    var victims: [(key: Bytes, mark: Mark)] = []
    _ = index.scan(KeyBounds(KeyRange(request)), at: .max, visitsMax: .max) { visible in
      victims.append((Bytes(visible.key), visible.mark))
      return true
    }
    var previous: [Bytes] = []
    for (key, mark) in victims {
      if request.prevKv { previous.append(store.record(at: mark.revision)) }
      if mark.isLeased {
        effects.leases.append(.detach(lease(at: mark.revision), key: key))
      }
      bury(key, at: index.find(key), step: &step, effects: &effects)
    }
    return DeleteRangeResult(
      revision: step.visible, deleted: Int64(victims.count), previous: previous)
  }

  /// Deletes one live key. Leases are the caller's matter.
  private mutating func bury(
    _ key: Bytes, at location: KeyIndex.Location, step: inout WriteStep,
    effects: inout ApplyEffects
  ) {
    let revision = step.next()
    index.delete(key, at: location, revision: revision)
    store.append(
      revision, isTombstone: true, record: StoredKeyValue.encodeTombstone(key: key))
    let deletion = StoredKeyValue.encodeDeletion(key: key, at: revision.main)
    effects.changes.append(Change(kind: .delete, key: key, revision: revision, keyValue: deletion))
  }
}
