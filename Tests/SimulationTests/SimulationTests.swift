import Base
import Glibc
import RaftActor
import StoreActor
import Testing

@testable import Simulation

@Suite struct SimulationTests {
  /// A seed determines everything, or a failure could not be replayed.
  @Test(arguments: Layer.allCases) func equalSeedsGiveEqualRuns(layer: Layer) {
    for seed in 4...6 as ClosedRange<UInt64> {
      var request = RunRequest(seed: seed)
      request.layer = layer
      request.seconds = 2
      let first = request.run()
      let second = request.run()
      #expect(first.traceHash == second.traceHash && first.counts == second.counts)
      #expect(first.violation == nil, "seed \(seed): \(String(describing: first.violation))")
      #expect(first.counts.steps > 100)
      request.seed += 100
      #expect(request.run().traceHash != first.traceHash)
    }
  }

  /// Some runs where `swift test` and the sanitizers see them; `simulate` makes far more.
  /// `SIMULATION_SEEDS=500` runs that many.
  @Test(arguments: 0..<8) func randomFaults(block: UInt64) {
    let seeds = getenv("SIMULATION_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 16
    var counts = RunCounts()
    for seed in block * seeds / 8..<(block + 1) * seeds / 8 {
      var request = RunRequest(seed: seed + 1)
      if seeds == 16 { request.seconds = 5 }
      let result = request.run()
      #expect(
        result.violation == nil,
        "\(request.command): \(result.violation.map { "\($0)" } ?? "")")
      counts.add(result.counts.encoded)
    }
    #expect(counts.commits > 20, "the load hardly ran: \(counts)")
  }

  /// What a failure does not need is left out, and the command says so.
  @Test func shrinkingKeepsWhatMatters() {
    var request = RunRequest(seed: 9)
    request.plant = .voteTwice
    let shrunk = request.shrunk { candidate in
      !candidate.without.contains(.crash) && (candidate.seconds ?? 8) >= 3
        && (candidate.members ?? 3) >= 2
    }
    #expect(!shrunk.without.contains(.crash) && shrunk.without.contains(.loss))
    #expect(shrunk.members.map { $0 >= 2 } ?? true)
    #expect(
      shrunk.command.contains("--plant voteTwice") && shrunk.command.contains("--without loss"))
    #expect(shrunk.options.loss == 0)
  }
}

@Suite struct LogImageTests {
  private func entries(_ range: ClosedRange<LogIndex>, term: Term) -> [Entry] {
    range.map { Entry(term: term, index: $0, data: [1]) }
  }

  private func image() -> LogImage {
    var image = LogImage()
    image.append(
      DiskBatch(
        sequence: 1, entries: entries(1...5, term: 1), hardState: HardState(term: 1, commit: 3)))
    return image
  }

  @Test func newerEntriesReplaceOlderOnes() {
    var image = image()
    image.append(DiskBatch(sequence: 2, entries: entries(4...4, term: 2)))
    #expect(image.lastIndex == 4 && image.term(at: 4) == 2 && image.term(at: 3) == 1)
  }

  @Test func aBatchMayBeCutBetweenItsRecords() {
    let batch = DiskBatch(
      sequence: 2, entries: entries(6...7, term: 2),
      hardState: HardState(term: 2, vote: 3, commit: 3))
    for (records, last, term) in [(0, 5, 1), (1, 6, 1), (2, 7, 1), (3, 7, 2)]
      as [(Int, LogIndex, Term)]
    {
      var image = image()
      image.append(batch, records: records)
      #expect(image.lastIndex == last && image.hardState.term == term)
    }
  }

  /// A received snapshot counts once the hard state behind it is there: wholly old or wholly new.
  @Test func aReceivedMarkNeedsItsHardState() {
    let mark = SnapshotMetadata(index: 20, term: 3)
    let batch = DiskBatch(
      sequence: 2, mark: mark, entries: entries(21...22, term: 3),
      hardState: HardState(term: 3, commit: 20))
    for records in 0...3 {
      var image = image()
      image.append(batch, records: records)
      image.recover()
      #expect(image.base.index == 0 && image.lastIndex == 5)
    }
    var image = image()
    image.append(batch)
    #expect(image.base == mark && image.lastIndex == 22 && image.term(at: 20) == 3)
  }
}

@Suite struct SimulatedFileSystemTests {
  private static let path = "/wal/a"

  private func files(seed: UInt64) throws -> (SimulatedFileSystem, Int32) {
    let files = SimulatedFileSystem(seed: seed)
    try files.makeDirectory("/wal")
    let file = try files.open(Self.path, create: true)
    try write(files, file, Bytes(repeating: 1, count: 2048), at: 0)
    try files.sync(file)
    try files.syncDirectory("/wal")
    return (files, file)
  }

  private func write(
    _ files: SimulatedFileSystem, _ file: Int32, _ bytes: Bytes, at offset: Int
  ) throws {
    var done = 0
    while done < bytes.count {
      done += try bytes.withUnsafeBytes { (all) throws(SystemError) in
        try files.write(
          file, UnsafeRawBufferPointer(rebasing: all[done...]), at: offset + done)
      }
    }
  }

  private func read(_ files: SimulatedFileSystem) throws -> Bytes {
    let file = try files.openForReading(Self.path)
    var bytes = Bytes(repeating: 0, count: try files.size(file))
    let count = try bytes.withUnsafeMutableBytes { (buffer) throws(SystemError) in
      try files.read(file, into: buffer, at: 0)
    }
    #expect(count == bytes.count)
    return bytes
  }

  /// What was synced stays; of the rest any sectors.
  @Test func powerCutsLoseUnsyncedSectors() throws {
    var seen: Set<Bytes> = []
    for seed in 0..<40 as Range<UInt64> {
      let (files, file) = try files(seed: seed)
      try write(files, file, Bytes(repeating: 2, count: 1024), at: 1024)
      files.restart(power: true)
      let bytes = try read(files)
      #expect(bytes.prefix(1024) == Bytes(repeating: 1, count: 1024)[...])
      #expect(bytes[1024..<1536].allSatisfy { $0 == bytes[1024] })
      seen.insert([bytes[1024], bytes[1536]])
    }
    #expect(seen.count == 4, "all combinations of two sectors")
  }

  @Test func theEndOfAProcessLosesNothing() throws {
    let (files, file) = try files(seed: 1)
    try write(files, file, [2, 2], at: 0)
    files.restart(power: false)
    #expect(try read(files).prefix(3) == [2, 2, 1])
  }

  @Test func powerFailsAtTheChosenCall() throws {
    let (files, file) = try files(seed: 3)
    files.cutPower(afterCalls: 1)
    try files.sync(file)
    #expect(throws: SystemError(code: EIO)) { try files.sync(file) }
    #expect(throws: SystemError(code: EIO)) { try files.remove(Self.path) }
    files.restart(power: true)
    #expect(try read(files).count == 2048)
  }
}
