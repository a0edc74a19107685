public import Base
public import EtcdAPI
import FoundationEssentials

extension KeyValueMachine {
  /// Applies a transaction that may write. Atomic: it fails without effect, or runs to its end.
  ///
  /// Comparisons of all levels on the taken path are decided first, against the state before; then
  /// the operations on that path are checked, then run in order.
  /// - Throws: `futureRevision`, `compacted` (ranges), `keyNotFound`, `leaseNotFound` (puts).
  public mutating func txn(
    _ request: Etcdserverpb_TxnRequest, leaseExists: (LeaseID) -> Bool,
    effects: inout ApplyEffects
  ) throws(KVError) -> TxnResult {
    try txn(request, reads: .atOnce, leaseExists: leaseExists, effects: &effects).result
  }

  /// The same, with a choice of when its ranges are read.
  ///
  /// - Returns: the result, in which ranges are empty that are skipped or still to be read.
  public mutating func txn(
    _ request: Etcdserverpb_TxnRequest, reads: TxnReads, leaseExists: (LeaseID) -> Bool,
    effects: inout ApplyEffects
  ) throws(KVError) -> (result: TxnResult, deferred: DeferredTxn?) {
    let path = decide(request)
    var reader = TxnReader(reads)
    // All puts first, then all ranges: of two mistakes, etcd reports that of the put.
    var position = 0
    try checkPuts(
      request, path, &position, leaseExists: leaseExists, writes: &reader.writesLeft)
    position = 0
    try checkRanges(request, path, &position)
    var step = WriteStep(after: currentRevision)
    position = 0
    var result = run(
      request, path, &position, place: [], step: &step, reader: &reader, effects: &effects)
    currentRevision = step.visible
    result.revision = currentRevision
    guard !reader.cursors.isEmpty else { return (result, nil) }
    return (result, DeferredTxn(result, places: reader.places, cursors: reader.cursors))
  }

  // MARK: - Decision

  /// Which branch each transaction on the taken path takes, outer before inner, in order.
  private func decide(_ request: Etcdserverpb_TxnRequest) -> [Bool] {
    let succeeded = holds(request.compare)
    var path = [succeeded]
    for operation in succeeded ? request.success : request.failure {
      if case .requestTxn(let nested) = operation.request { path += decide(nested) }
    }
    return path
  }

  func holds(_ compares: [Etcdserverpb_Compare]) -> Bool {
    // Not a closure: that would copy the machine, with a reference count for each of its parts.
    for compare in compares where !holds(compare) { return false }
    return true
  }

  private func holds(_ compare: Etcdserverpb_Compare) -> Bool {
    let absent = {
      compare.target == .value ? false : Self.outcome(compare, order: Self.order(0, to: compare))
    }
    if compare.rangeEnd.isEmpty {
      let location = index.find(Bytes(compare.key))
      guard let state = index.state(at: location) else { return absent() }
      return holds(compare, for: state)
    }
    let range = KeyRange(key: Bytes(compare.key), rangeEnd: Bytes(compare.rangeEnd))
    var isEmpty = true
    var holdsForAll = true
    _ = index.scan(KeyBounds(range), at: .max, visitsMax: .max) { visible in
      isEmpty = false
      holdsForAll = holds(compare, for: KeyState(visible.entry))
      return holdsForAll
    }
    return isEmpty ? absent() : holdsForAll
  }

  private func holds(_ compare: Etcdserverpb_Compare, for state: KeyState) -> Bool {
    let order: Int
    switch compare.target {
    case .version: order = Self.order(state.version, to: compare)
    case .create: order = Self.order(state.created, to: compare)
    case .mod: order = Self.order(state.revision.main, to: compare)
    case .lease:
      order = Self.order(state.isLeased ? lease(at: state.revision) : 0, to: compare)
    case .value:
      let record = store.record(at: state.revision)
      order = Bytes(record[StoredKeyValue(record).value]).compare(Bytes(compare.value))
    case .UNRECOGNIZED: order = 0
    }
    return Self.outcome(compare, order: order)
  }

  /// How a stored number stands to the given one; a missing or mismatching one is 0.
  private static func order(_ stored: Int64, to compare: Etcdserverpb_Compare) -> Int {
    let given: Int64
    switch compare.target {
    case .version: given = compare.version
    case .create: given = compare.createRevision
    case .mod: given = compare.modRevision
    case .lease: given = compare.lease
    case .value, .UNRECOGNIZED: return 0
    }
    return stored < given ? -1 : stored > given ? 1 : 0
  }

  private static func outcome(_ compare: Etcdserverpb_Compare, order: Int) -> Bool {
    switch compare.result {
    case .equal: order == 0
    case .notEqual: order != 0
    case .greater: order > 0
    case .less: order < 0
    case .UNRECOGNIZED: true
    }
  }

  // MARK: - Checks

  /// Checks the puts on the taken path, in order, and counts what will write.
  private func checkPuts(
    _ request: Etcdserverpb_TxnRequest, _ path: [Bool], _ position: inout Int,
    leaseExists: (LeaseID) -> Bool, writes: inout Int
  ) throws(KVError) {
    let succeeded = path[position]
    position += 1
    for operation in succeeded ? request.success : request.failure {
      switch operation.request {
      case .requestTxn(let nested):
        try checkPuts(nested, path, &position, leaseExists: leaseExists, writes: &writes)
      case .requestPut(let put):
        try checkPut(put, leaseExists: leaseExists)
        writes += 1
      case .requestDeleteRange: writes += 1
      case .requestRange, nil: break
      }
    }
  }

  /// Checks the ranges on the taken path, in order.
  private func checkRanges(
    _ request: Etcdserverpb_TxnRequest, _ path: [Bool], _ position: inout Int
  ) throws(KVError) {
    let succeeded = path[position]
    position += 1
    for operation in succeeded ? request.success : request.failure {
      switch operation.request {
      case .requestTxn(let nested): try checkRanges(nested, path, &position)
      case .requestRange(let range): try checkRange(range)
      case .requestPut, .requestDeleteRange, nil: break
      }
    }
  }

  /// Unlike a range on its own, only revision 0 is passed over here, not negative ones.
  func checkRange(_ request: Etcdserverpb_RangeRequest) throws(KVError) {
    if request.revision == 0 { return }
    if request.revision > currentRevision { throw .futureRevision }
    if request.revision < compactRevision { throw .compacted }
  }

  /// Unlike a put on its own, the key is looked at before the lease.
  private func checkPut(
    _ request: Etcdserverpb_PutRequest, leaseExists: (LeaseID) -> Bool
  ) throws(KVError) {
    if request.ignoreValue || request.ignoreLease {
      guard index.state(of: Bytes(request.key)) != nil else { throw .keyNotFound }
    }
    if request.lease != 0 && !leaseExists(request.lease) { throw .leaseNotFound }
  }

  // MARK: - Execution

  private mutating func run(
    _ request: Etcdserverpb_TxnRequest, _ path: [Bool], _ position: inout Int, place: [Int],
    step: inout WriteStep, reader: inout TxnReader, effects: inout ApplyEffects
  ) -> TxnResult {
    let succeeded = path[position]
    position += 1
    let operations = succeeded ? request.success : request.failure
    var responses: [OperationResult] = []
    responses.reserveCapacity(operations.count)
    for operation in operations {
      switch operation.request {
      case .requestRange(let range):
        responses.append(read(range, step, at: place, responses.count, reader: &reader))
      case .requestPut(let put):
        reader.writesLeft -= 1
        responses.append(.put(applyPut(PutOperation(put), step: &step, effects: &effects)))
      case .requestDeleteRange(let delete):
        reader.writesLeft -= 1
        responses.append(.deleteRange(applyDelete(delete, step: &step, effects: &effects)))
      case .requestTxn(let nested):
        let inner = place + [responses.count]
        responses.append(
          .txn(
            run(
              nested, path, &position, place: inner, step: &step, reader: &reader,
              effects: &effects)))
      case nil:
        responses.append(.empty)
      }
    }
    return TxnResult(revision: 0, succeeded: succeeded, responses: responses)
  }

  /// A range can be put off if nothing that this transaction still writes is of the revision that it reads:
  /// inside of one revision, a later look could not tell what came after it.
  private func read(
    _ range: Etcdserverpb_RangeRequest, _ step: WriteStep, at place: [Int], _ number: Int,
    reader: inout TxnReader
  ) -> OperationResult {
    let newest = step.visible
    let revision = range.revision > 0 ? range.revision : newest
    switch reader.reads {
    case .skipped: return .empty
    case .later(let keys)
    where !range.rangeEnd.isEmpty && (revision < step.main || reader.writesLeft == 0)
      && looksAt(range, at: revision, newest: newest) > keys:
      reader.put(off: cursor(range, at: revision, newest: newest), at: place + [number])
      return .empty
    case .atOnce, .later:
      return .range(executeRange(range, at: revision, newest: newest))
    }
  }

  /// About how many keys reading a range looks at: the index knows how many there are now.
  private func looksAt(
    _ range: Etcdserverpb_RangeRequest, at revision: Int64, newest: Int64
  ) -> Int {
    let count = index.count(in: KeyRange(range))
    guard revision == newest, RangeCursor.isPlain(range) else { return count }
    if range.countOnly { return 0 }
    return range.limit > 0 ? min(count, Int(clamping: range.limit)) : count
  }
}
