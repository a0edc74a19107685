public import Base

// HardState: term 1, vote 2, commit 3. All three are always written: etcd's log has them so.
extension HardState: WireMessage {
  public var encodedCount: Int {
    3 + ProtobufWriter.varintCount(term) + ProtobufWriter.varintCount(vote)
      + ProtobufWriter.varintCount(commit)
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, always: term)
    writer.field(2, always: vote)
    writer.field(3, always: commit)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    var reader = WireReader(buffer, "HardState")
    while let field = try reader.next() {
      switch field.number {
      case 1: term = try field.uint64()
      case 2: vote = try field.uint64()
      case 3: commit = try field.uint64()
      default: break
      }
    }
  }
}

// ConfState: voters 1, learners 2, voters_outgoing 3, learners_next 4 (unpacked), auto_leave 5.
extension ConfState: WireMessage {
  public var encodedCount: Int {
    [voters, learners, votersOutgoing, learnersNext].reduce(2) { count, list in
      list.reduce(count) { $0 + 1 + ProtobufWriter.varintCount($1) }
    }
  }

  public func encode(into writer: inout ProtobufWriter) {
    for id in voters { writer.field(1, always: id) }
    for id in learners { writer.field(2, always: id) }
    for id in votersOutgoing { writer.field(3, always: id) }
    for id in learnersNext { writer.field(4, always: id) }
    writer.field(5, always: autoLeave ? 1 : 0)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    var reader = WireReader(buffer, "ConfState")
    while let field = try reader.next() {
      switch field.number {
      case 1: try field.appendVarints(to: &voters)
      case 2: try field.appendVarints(to: &learners)
      case 3: try field.appendVarints(to: &votersOutgoing)
      case 4: try field.appendVarints(to: &learnersNext)
      case 5: autoLeave = try field.bool()
      default: break
      }
    }
    // etcd sends them in the order of a map.
    voters.sort()
    learners.sort()
    votersOutgoing.sort()
    learnersNext.sort()
  }
}

// SnapshotMetadata: conf_state 1, index 2, term 3. All written: a 3.7 receiver dereferences them.
extension SnapshotMetadata: WireMessage {
  public var encodedCount: Int {
    ProtobufWriter.fieldCount(content: confState.encodedCount)
      + 2 + ProtobufWriter.varintCount(index) + ProtobufWriter.varintCount(term)
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.lengthPrefix(1, confState.encodedCount)
    confState.encode(into: &writer)
    writer.field(2, always: index)
    writer.field(3, always: term)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    var reader = WireReader(buffer, "SnapshotMetadata")
    while let field = try reader.next() {
      switch field.number {
      case 1: confState = try ConfState(decoding: try field.buffer())
      case 2: index = try field.uint64()
      case 3: term = try field.uint64()
      default: break
      }
    }
  }
}

// Snapshot: data 1, metadata 2.
extension Snapshot: WireMessage {
  public var encodedCount: Int {
    (data.isEmpty ? 0 : ProtobufWriter.fieldCount(content: data.count))
      + ProtobufWriter.fieldCount(content: metadata.encodedCount)
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, content: data)
    writer.lengthPrefix(2, metadata.encodedCount)
    metadata.encode(into: &writer)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    var reader = WireReader(buffer, "Snapshot")
    while let field = try reader.next() {
      switch field.number {
      case 1: data = try field.bytes()
      case 2: metadata = try SnapshotMetadata(decoding: try field.buffer())
      default: break
      }
    }
  }
}
