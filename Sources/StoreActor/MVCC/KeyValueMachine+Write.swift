package import Base
package import EtcdAPI
import FoundationEssentials

extension KeyValueMachine {
  /// Applies a put.
  ///
  /// - Throws: `leaseNotFound`, then `keyNotFound` (ignore flags on an absent key).
  package mutating func put(
    _ request: Etcdserverpb_PutRequest, leaseExists: (LeaseID) -> Bool,
    effects: inout ApplyEffects
  ) throws(KVError) -> PutResult {
    if request.lease != 0 && !leaseExists(request.lease) { throw .leaseNotFound }
    if request.ignoreValue || request.ignoreLease {
      guard index.state(of: Bytes(request.key)) != nil else { throw .keyNotFound }
    }
    var step = WriteStep(after: currentRevision)
    let result = applyPut(request, step: &step, effects: &effects)
    currentRevision = step.main
    return result
  }

  /// Applies a delete. Deleting nothing succeeds and leaves the revision as it is.
  package mutating func deleteRange(
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
  package mutating func revokeKeys(_ keys: [Bytes], effects: inout ApplyEffects) -> Int64 {
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
    _ request: Etcdserverpb_PutRequest, step: inout WriteStep, effects: inout ApplyEffects
  ) -> PutResult {
    let key = Bytes(request.key)
    let location = index.find(key)
    var old: Bytes?
    var oldLease: LeaseID = 0
    if let state = index.state(at: location),
      state.isLeased || request.prevKv || request.ignoreValue
    {
      let record = store.record(at: state.revision)
      if state.isLeased { oldLease = StoredKeyValue(record).lease }
      old = record
    }
    let lease = request.ignoreLease ? oldLease : request.lease
    let revision = step.next()
    let state = index.put(key, at: location, revision: revision, isLeased: lease != 0)
    let record = Self.record(
      key, state, request: request, keeping: request.ignoreValue ? old : nil, lease: lease)
    store.append(revision, isTombstone: false, record: record)
    if oldLease != lease {
      if oldLease != 0 { effects.leases.append(.detach(oldLease, key: key)) }
      if lease != 0 { effects.leases.append(.attach(lease, key: key)) }
    }
    effects.changes.append(Change(kind: .put, key: key, revision: revision, keyValue: record))
    return PutResult(revision: revision.main, previous: request.prevKv ? old : nil)
  }

  private static func record(
    _ key: Bytes, _ state: KeyState, request: Etcdserverpb_PutRequest, keeping old: Bytes?,
    lease: LeaseID
  ) -> Bytes {
    func encode(_ value: UnsafeRawBufferPointer) -> Bytes {
      key.withUnsafeBytes {
        StoredKeyValue.encode(
          key: $0, createRevision: state.created, modRevision: state.revision.main,
          version: state.version, value: value, lease: lease)
      }
    }
    guard let old else { return request.value.withUnsafeBytes { encode($0) } }
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
