/// When the ranges inside a transaction that writes are read. What it writes is the same in any case.
public enum TxnReads: Sendable {
  /// In the step that applies it.
  case atOnce
  /// Never: nobody wants the answer.
  case skipped
  /// Those of more keys than this later, in slices, at the revision that they see.
  case later(keys: Int)
}

/// A transaction that was applied, and the ranges of its answer that are still to be read.
///
/// They are pinned to their revisions: whatever is written meanwhile does not show. A compaction of those
/// revisions has to wait until they are read, as what was written cannot be taken back for an error.
public struct DeferredTxn: Sendable {
  private let result: TxnResult
  /// Where the answers of `reads` belong, in order: positions from the outermost transaction inwards.
  private let places: [[Int]]
  public var reads: ReadOnlyTxnCursor

  init(_ result: TxnResult, places: [[Int]], cursors: [RangeCursor]) {
    self.result = result
    self.places = places
    reads = ReadOnlyTxnCursor(
      revision: result.revision, succeeded: result.succeeded, rest: cursors.reversed())
  }

  /// The whole answer, once `reads` are done.
  public var answer: TxnResult {
    var answer = result
    for (place, response) in zip(places, reads.responses) { answer.set(response, at: place[...]) }
    return answer
  }
}

extension TxnResult {
  fileprivate mutating func set(_ response: OperationResult, at place: ArraySlice<Int>) {
    guard let position = place.first else { return }
    if case .txn(var nested) = responses[position] {
      nested.set(response, at: place.dropFirst())
      responses[position] = .txn(nested)
    } else {
      responses[position] = response
    }
  }
}

/// What running a transaction remembers for its ranges.
struct TxnReader {
  let reads: TxnReads
  /// Puts and deletes on the taken path that are still to be run.
  var writesLeft = 0
  private(set) var places: [[Int]] = []
  private(set) var cursors: [RangeCursor] = []

  init(_ reads: TxnReads) { self.reads = reads }

  mutating func put(off cursor: RangeCursor, at place: [Int]) {
    cursors.append(cursor)
    places.append(place)
  }
}
