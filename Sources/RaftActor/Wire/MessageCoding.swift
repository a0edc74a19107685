public import Base

// Message: type 1, to 2, from 3, term 4, logTerm 5, index 6, entries 7, commit 8, snapshot 9,
// reject 10, rejectHint 11, context 12. 13 and 14 never travel.
extension Message: WireMessage {
  /// A frame that only says the stream is alive: a heartbeat from and to nobody.
  public var isLinkHeartbeat: Bool { kind == .heartbeat && from == 0 && to == 0 }

  public static let linkHeartbeat = Message(kind: .heartbeat)

  public var encodedCount: Int {
    var count = 1 + ProtobufWriter.varintCount(kind.rawValue)
    count += ProtobufWriter.fieldCount(to) + ProtobufWriter.fieldCount(from)
    count += ProtobufWriter.fieldCount(term) + ProtobufWriter.fieldCount(logTerm)
    count += ProtobufWriter.fieldCount(index) + ProtobufWriter.fieldCount(commit)
    for entry in entries { count += ProtobufWriter.fieldCount(content: entry.encodedCount) }
    if let snapshot { count += ProtobufWriter.fieldCount(content: snapshot.encodedCount) }
    count += (reject ? 2 : 0) + ProtobufWriter.fieldCount(rejectHint)
    if !context.isEmpty { count += ProtobufWriter.fieldCount(content: context.count) }
    return count
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, always: kind.rawValue)
    writer.field(2, to)
    writer.field(3, from)
    writer.field(4, term)
    writer.field(5, logTerm)
    writer.field(6, index)
    for entry in entries {
      writer.lengthPrefix(7, entry.encodedCount)
      entry.encode(into: &writer)
    }
    writer.field(8, commit)
    if let snapshot {
      writer.lengthPrefix(9, snapshot.encodedCount)
      snapshot.encode(into: &writer)
    }
    writer.field(10, reject)
    writer.field(11, rejectHint)
    writer.field(12, content: context)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(kind: .hup)
    var reader = WireReader(buffer, "Message")
    while let field = try reader.next() {
      switch field.number {
      case 1:
        let value = try field.uint64()
        guard let kind = Kind(rawValue: value) else { throw .unknownKind("Message", value) }
        self.kind = kind
      case 2: to = try field.uint64()
      case 3: from = try field.uint64()
      case 4: term = try field.uint64()
      case 5: logTerm = try field.uint64()
      case 6: index = try field.uint64()
      case 7: entries.append(try Entry(decoding: try field.buffer()))
      case 8: commit = try field.uint64()
      case 9:
        // Old writers put an empty snapshot into every message.
        let snapshot = try Snapshot(decoding: try field.buffer())
        self.snapshot = snapshot.metadata.index == 0 ? nil : snapshot
      case 10: reject = try field.bool()
      case 11: rejectHint = try field.uint64()
      case 12: context = try field.bytes()
      default: break
      }
    }
  }
}

// ConfChange: id 1, type 2, node_id 3, context 4.
extension ConfChange: WireMessage {
  public var encodedCount: Int {
    ProtobufWriter.fieldCount(id) + ProtobufWriter.fieldCount(kind.rawValue)
      + ProtobufWriter.fieldCount(nodeID)
      + (context.isEmpty ? 0 : ProtobufWriter.fieldCount(content: context.count))
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, id)
    writer.field(2, kind.rawValue)
    writer.field(3, nodeID)
    writer.field(4, content: context)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(kind: .addNode, nodeID: 0)
    var reader = WireReader(buffer, "ConfChange")
    while let field = try reader.next() {
      switch field.number {
      case 1: id = try field.uint64()
      case 2: kind = try Self.kind(try field.uint64())
      case 3: nodeID = try field.uint64()
      case 4: context = try field.bytes()
      default: break
      }
    }
  }

  /// The change that a configuration entry carries.
  ///
  /// A ConfChangeV2 with exactly one change and no explicit joint transition means the same as a
  /// ConfChange without an id; every other one needs joint consensus and is refused.
  /// - Throws: `WireError.jointConfiguration`, or what is wrong with the bytes.
  public init(entry: Entry) throws(WireError) {
    guard entry.kind == .configurationChangeV2 else {
      self = try ConfChange(decoding: entry.data)
      return
    }
    let result = entry.data.withUnsafeBytes { buffer -> Result<ConfChange, WireError> in
      do throws(WireError) { return .success(try ConfChange(decodingV2: buffer)) } catch {
        return .failure(error)
      }
    }
    self = try result.get()
  }

  // ConfChangeV2: transition 1 (0 = automatic), changes 2 {type 1, node_id 2}, context 3.
  private init(decodingV2 buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(kind: .addNode, nodeID: 0)
    var changes = 0
    var reader = WireReader(buffer, "ConfChangeV2")
    while let field = try reader.next() {
      switch field.number {
      case 1: if try field.uint64() != 0 { throw .jointConfiguration }
      case 2:
        changes += 1
        var single = WireReader(try field.buffer(), "ConfChangeSingle")
        while let part = try single.next() {
          switch part.number {
          case 1: kind = try Self.kind(try part.uint64())
          case 2: nodeID = try part.uint64()
          default: break
          }
        }
      case 3: context = try field.bytes()
      default: break
      }
    }
    if changes != 1 { throw .jointConfiguration }
  }

  private static func kind(_ value: UInt64) throws(WireError) -> Kind {
    guard let kind = Kind(rawValue: value) else { throw .unknownKind("ConfChange", value) }
    return kind
  }
}
