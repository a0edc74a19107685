import CLMDB
import Glibc

/// Has the kernel fetch the first and last pages of long records ahead of a scan that reads only these.
///
/// A scan of a cold file otherwise waits for two reads per long record, one after the other, and with
/// each the kernel reads what lies around the page, up to megabytes, of which no one has any use.
/// Among short records it is of use: there the kernel is left to itself.
struct EdgeReadAhead: ~Copyable {
  static let longBytes = 64 << 10
  /// Most records ahead: two reads each, more than a disk has slots for.
  private static let depth = 256
  /// As many short records in turn end a region of long ones.
  private static let shortRunMax = 64
  private static let pageBytes = UInt(getpagesize())
  /// What may stand behind a value: a lease, as a tag and ten bytes.
  private static let tailBytes = 16

  private let environment: Environment
  private let lead: TableCursor
  /// Records behind the scan's present one that the lead has passed.
  private var ahead = 0
  private var isAtEnd = false
  private var shortRun = 0
  private var isAmongLong = false

  init(_ environment: Environment, _ txn: OpaquePointer) throws(BackendError) {
    self.environment = environment
    lead = try TableCursor(environment, txn, .key)
  }

  deinit { if isAmongLong { environment.advise(MADV_NORMAL) } }

  /// The scan has come to this record.
  mutating func visit(_ entry: TableCursor.Entry) throws(BackendError) {
    ahead = max(0, ahead - 1)
    note(isLong: entry.value.count >= Self.longBytes)
    guard isAmongLong, ahead < Self.depth / 2, !isAtEnd else { return }
    if ahead == 0, try lead.seek(entry.key) == nil { return }
    while ahead < Self.depth {
      guard let (_, value) = try lead.next() else {
        isAtEnd = true
        return
      }
      ahead += 1
      if value.count >= Self.longBytes { Self.fetchEdges(value) }
    }
  }

  private mutating func note(isLong: Bool) {
    shortRun = isLong ? 0 : shortRun + 1
    if isLong, !isAmongLong {
      isAmongLong = true
      environment.advise(MADV_RANDOM)
    } else if isAmongLong, shortRun == Self.shortRunMax {
      isAmongLong = false
      environment.advise(MADV_NORMAL)
    }
  }

  private static func fetchEdges(_ record: UnsafeRawBufferPointer) {
    fetch(UnsafeRawBufferPointer(rebasing: record.prefix(tailBytes)))
    fetch(UnsafeRawBufferPointer(rebasing: record.suffix(tailBytes)))
  }

  /// A hint: where the kernel refuses it, the scan waits for the page instead.
  private static func fetch(_ part: UnsafeRawBufferPointer) {
    let start = UInt(bitPattern: part.baseAddress) & ~(pageBytes - 1)
    let end = UInt(bitPattern: part.baseAddress) + UInt(part.count)
    madvise(UnsafeMutableRawPointer(bitPattern: start), Int(end - start), MADV_WILLNEED)
  }
}
