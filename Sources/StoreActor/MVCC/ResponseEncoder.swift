public import Base

/// Writes key-value responses straight to wire bytes: stored key-values are spliced in, not decoded.
///
/// Field order and presence are those of swift-protobuf and etcd: zeros left out, headers always there
/// (inside a transaction with the revision only; empty for a nested transaction).
public struct ResponseEncoder: Sendable {
  public let clusterID: ClusterID
  public let memberID: MemberID
  /// The term of the last entry applied by this member.
  public var raftTerm: Term

  public init(clusterID: ClusterID, memberID: MemberID, raftTerm: Term) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.raftTerm = raftTerm
  }

  /// Appends an encoded etcdserverpb.RangeResponse to `output`.
  public func append(_ result: RangeResult, to output: inout Bytes) {
    let header = header(result.revision)
    write(into: &output, reserving: Size.range(result, header)) {
      $0.range(result, header)
    }
  }

  /// Appends an encoded etcdserverpb.PutResponse to `output`.
  public func append(_ result: PutResult, to output: inout Bytes) {
    let header = header(result.revision)
    write(into: &output, reserving: Size.put(result, header)) { $0.put(result, header) }
  }

  /// Appends an encoded etcdserverpb.DeleteRangeResponse to `output`.
  public func append(_ result: DeleteRangeResult, to output: inout Bytes) {
    let header = header(result.revision)
    write(into: &output, reserving: Size.deleteRange(result, header)) {
      $0.deleteRange(result, header)
    }
  }

  /// Appends an encoded etcdserverpb.TxnResponse to `output`.
  public func append(_ result: TxnResult, to output: inout Bytes) {
    let header = header(result.revision)
    write(into: &output, reserving: Size.txn(result, header)) { $0.txn(result, header) }
  }

  public func encode(_ result: RangeResult) -> Bytes { collect { append(result, to: &$0) } }

  /// The same in pieces: a long one is spliced from those of its rows, which are not copied.
  public func pieces(_ result: RangeResult) -> [Bytes] {
    let header = header(result.revision)
    return collectPieces(Size.range(result, header)) { $0.range(result, header) }
  }

  /// The same in pieces, as for ranges.
  public func pieces(_ result: TxnResult) -> [Bytes] {
    let header = header(result.revision)
    return collectPieces(Size.txn(result, header)) { $0.txn(result, header) }
  }

  public func encode(_ result: PutResult) -> Bytes { collect { append(result, to: &$0) } }
  public func encode(_ result: DeleteRangeResult) -> Bytes { collect { append(result, to: &$0) } }
  public func encode(_ result: TxnResult) -> Bytes { collect { append(result, to: &$0) } }

  /// The content of an etcdserverpb.ResponseHeader, for responses written elsewhere.
  public func header(_ revision: Int64) -> Bytes {
    var writer = ProtobufWriter(reserving: 40)
    writer.field(1, clusterID)
    writer.field(2, memberID)
    writer.field(3, signed: revision)
    writer.field(4, raftTerm)
    return writer.bytes
  }

  private func collect(_ body: (inout Bytes) -> Void) -> Bytes {
    var output: Bytes = []
    body(&output)
    return output
  }

  private func collectPieces(
    _ count: Int, _ body: (inout ResponseWriter) -> Void
  ) -> [Bytes] {
    var writer = ResponseWriter(output: [], splicesRows: count > EncodedRows.pieceBytes)
    if !writer.splicesRows { writer.output.reserveCapacity(count) }
    body(&writer)
    let pieces = writer.pieces + [writer.output]
    assert(pieces.reduce(0) { $0 + $1.count } == count, "announced and written sizes differ")
    return pieces
  }

  private func write(
    into output: inout Bytes, reserving count: Int, _ body: (inout ResponseWriter) -> Void
  ) {
    let start = output.count
    var writer = ResponseWriter(output: output)
    output = []  // so that the writer is the only owner and nothing is copied
    writer.output.reserveCapacity(start + count)
    body(&writer)
    output = writer.output
    assert(output.count == start + count, "announced and written sizes differ")
  }
}

/// Encoded sizes, needed before the content because every nested message starts with its length.
private enum Size {
  static func field(_ count: Int) -> Int {
    1 + ProtobufWriter.varintCount(UInt64(count)) + count
  }

  static func integer(_ value: Int64) -> Int {
    value == 0 ? 0 : 1 + ProtobufWriter.varintCount(UInt64(bitPattern: value))
  }

  static func range(_ result: RangeResult, _ header: Bytes) -> Int {
    field(header.count) + result.rows.byteCount + (result.more ? 2 : 0) + integer(result.count)
  }

  static func put(_ result: PutResult, _ header: Bytes) -> Int {
    field(header.count) + (result.previous.map { field($0.count) } ?? 0)
  }

  static func deleteRange(_ result: DeleteRangeResult, _ header: Bytes) -> Int {
    var sum = field(header.count) + integer(result.deleted)
    for row in result.previous { sum += field(row.count) }
    return sum
  }

  static func txn(_ result: TxnResult, _ header: Bytes) -> Int {
    var sum = field(header.count) + (result.succeeded ? 2 : 0)
    for response in result.responses { sum += field(operation(response)) }
    return sum
  }

  /// Of a ResponseOp message.
  static func operation(_ result: OperationResult) -> Int {
    if case .empty = result { return 0 }
    return field(response(result))
  }

  /// Of the response inside a ResponseOp.
  static func response(_ result: OperationResult) -> Int {
    switch result {
    case .range(let result): range(result, nestedHeader(result.revision))
    case .put(let result): put(result, nestedHeader(result.revision))
    case .deleteRange(let result): deleteRange(result, nestedHeader(result.revision))
    case .txn(let result): txn(result, [])
    case .empty: 0
    }
  }

  static func nestedHeader(_ revision: Int64) -> Bytes {
    var writer = ProtobufWriter(reserving: 11)
    writer.field(3, signed: revision)
    return writer.bytes
  }
}

private struct ResponseWriter {
  var output: Bytes
  /// Whether long rows go to `pieces` as they are. They stand before what is in `output` then.
  var splicesRows = false
  private(set) var pieces: [Bytes] = []

  mutating func range(_ result: RangeResult, _ header: Bytes) {
    bytes(1, header)
    rows(result.rows)
    if result.more { integer(3, 1) }
    integer(4, result.count)
  }

  mutating func put(_ result: PutResult, _ header: Bytes) {
    bytes(1, header)
    if let previous = result.previous { bytes(2, previous) }
  }

  mutating func deleteRange(_ result: DeleteRangeResult, _ header: Bytes) {
    bytes(1, header)
    integer(2, result.deleted)
    for row in result.previous { bytes(3, row) }
  }

  mutating func txn(_ result: TxnResult, _ header: Bytes) {
    bytes(1, header)
    if result.succeeded { integer(2, 1) }
    for response in result.responses {
      prefix(3, Size.operation(response))
      operation(response)
    }
  }

  private mutating func operation(_ result: OperationResult) {
    let size = Size.response(result)
    switch result {
    case .range(let result):
      prefix(1, size)
      range(result, Size.nestedHeader(result.revision))
    case .put(let result):
      prefix(2, size)
      put(result, Size.nestedHeader(result.revision))
    case .deleteRange(let result):
      prefix(3, size)
      deleteRange(result, Size.nestedHeader(result.revision))
    case .txn(let result):
      prefix(4, size)
      txn(result, [])
    case .empty:
      break
    }
  }

  private mutating func rows(_ rows: EncodedRows) {
    if splicesRows && rows.byteCount > EncodedRows.pieceBytes {
      pieces.append(output)
      pieces.append(contentsOf: rows.closed)
      output = rows.open
    } else {
      for piece in rows.closed { output.append(contentsOf: piece) }
      output.append(contentsOf: rows.open)
    }
  }

  private mutating func bytes(_ number: UInt8, _ content: Bytes) {
    prefix(number, content.count)
    output.append(contentsOf: content)
  }

  private mutating func prefix(_ number: UInt8, _ count: Int) {
    output.append(number << 3 | 2)
    varint(UInt64(count))
  }

  private mutating func integer(_ number: UInt8, _ value: Int64) {
    guard value != 0 else { return }
    output.append(number << 3)
    varint(UInt64(bitPattern: value))
  }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      output.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    output.append(UInt8(truncatingIfNeeded: rest))
  }
}
