public import Base

/// Whose log it is (etcdserverpb.Metadata).
public struct WALMetadata: Equatable, Sendable {
  public var nodeID: MemberID
  public var clusterID: ClusterID

  public init(nodeID: MemberID, clusterID: ClusterID) {
    self.nodeID = nodeID
    self.clusterID = clusterID
  }
}

/// Bytes at the end of the log that were never synced and have been cut off.
public struct WALTornTail: Equatable, Sendable {
  public var file: String
  public var offset: Int
  /// How many bytes, up to the last that was not zero.
  public var bytes: Int
  public var reason: String
  /// Where the segment was copied before; nil when the log was only read.
  public var copy: String?
}

/// What a log holds from its newest usable snapshot record on.
public struct WALRecovered: Equatable, Sendable {
  public var metadata: WALMetadata
  public var hardState: HardState
  /// The newest snapshot record at or below the commit index; index 0 = the log's beginning.
  public var snapshot: SnapshotMetadata
  /// The entries behind `snapshot`, without holes; the last ones may be uncommitted.
  public var entries: [Entry]
  public var tornTail: WALTornTail?
}

// Metadata: NodeID 1, ClusterID 2.
extension WALMetadata: WireMessage {
  public var encodedCount: Int {
    2 + ProtobufWriter.varintCount(nodeID) + ProtobufWriter.varintCount(clusterID)
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, always: nodeID)
    writer.field(2, always: clusterID)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(nodeID: 0, clusterID: 0)
    var reader = WireReader(buffer, "Metadata")
    while let field = try reader.next() {
      switch field.number {
      case 1: nodeID = try field.uint64()
      case 2: clusterID = try field.uint64()
      default: break
      }
    }
  }
}

/// A snapshot record (walpb.Snapshot): index 1, term 2, conf_state 3. Not the message of Raft.
struct WALSnapshotRecord: WireMessage {
  var metadata: SnapshotMetadata

  init(_ metadata: SnapshotMetadata) { self.metadata = metadata }

  private var hasConfState: Bool { metadata.index > 0 }

  var encodedCount: Int {
    2 + ProtobufWriter.varintCount(metadata.index) + ProtobufWriter.varintCount(metadata.term)
      + (hasConfState ? ProtobufWriter.fieldCount(content: metadata.confState.encodedCount) : 0)
  }

  func encode(into writer: inout ProtobufWriter) {
    writer.field(1, always: metadata.index)
    writer.field(2, always: metadata.term)
    if hasConfState {
      writer.lengthPrefix(3, metadata.confState.encodedCount)
      metadata.confState.encode(into: &writer)
    }
  }

  init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    metadata = SnapshotMetadata()
    var reader = WireReader(buffer, "walpb.Snapshot")
    while let field = try reader.next() {
      switch field.number {
      case 1: metadata.index = try field.uint64()
      case 2: metadata.term = try field.uint64()
      case 3: metadata.confState = try ConfState(decoding: try field.buffer())
      default: break
      }
    }
  }
}
