public import Base
import Glibc
public import RaftActor
import Synchronization

/// A disk for the log: a live and a durable image of every file and directory, power cuts at any system
/// call that keep a random subset of the unsynced sectors, I/O errors, a full disk.
public final class SimulatedFileSystem: WALFileSystem, Sendable {
  fileprivate struct File: Sendable {
    var live: Bytes = []
    var durable: Bytes = []
    var lockHolder: Int32?
  }

  /// Names to files; paths are flat, directories are sets of names.
  fileprivate struct State: Sendable {
    var files: [Int: File] = [:]
    var live: [String: Int] = [:]
    var durable: [String: Int] = [:]
    var directories: Set<String> = ["/"]
    var handles: [Int32: Int] = [:]
    var nextFile = 0
    var nextHandle: Int32 = 3
    var random: SeededGenerator
    /// Calls that still succeed; then the power is off.
    var callsLeft: Int?
    var failsNext: Int32?
    var isFull = false
    var syncs = 0
  }

  static let sectorBytes = 512

  private let state: Mutex<State>

  public init(seed: UInt64) { state = Mutex(State(random: SeededGenerator(seed: seed))) }

  // MARK: - Faults

  /// The power fails after that many more calls that change the disk.
  func cutPower(afterCalls count: Int) { state.withLock { $0.callsLeft = count } }

  /// The next write or sync fails with this error.
  func failNext(_ code: Int32) { state.withLock { $0.failsNext = code } }

  /// Files can grow no more.
  func setFull(_ isFull: Bool) { state.withLock { $0.isFull = isFull } }

  var syncs: Int { state.withLock { $0.syncs } }

  /// What the next process finds.
  ///
  /// - Parameter power: whether the page cache is lost.
  func restart(power: Bool) {
    state.withLock { state in
      state.handles = [:]
      state.callsLeft = nil
      state.failsNext = nil
      for number in state.files.keys.sorted() { state.files[number]?.lockHolder = nil }
      guard power else { return }
      state.loseNames()
      for number in state.files.keys.sorted() { state.tear(number) }
    }
  }

  // MARK: - Contents

  /// The last segment of a log's directory.
  public func content(of directory: String) -> Bytes {
    state.withLock { state in
      let names = state.live.keys.filter { $0.hasPrefix(directory + "/") && $0.hasSuffix(".wal") }
      return names.max().flatMap { state.live[$0] }.flatMap { state.files[$0]?.live } ?? []
    }
  }

  /// Adds a durable file, and the directory around it.
  public func addFile(_ path: String, _ bytes: Bytes) {
    state.withLock { state in
      state.nextFile += 1
      state.files[state.nextFile] = File(live: bytes, durable: bytes)
      state.live[path] = state.nextFile
      state.durable[path] = state.nextFile
      if let slash = path.lastIndex(of: "/") { state.directories.insert(String(path[..<slash])) }
    }
  }

  // MARK: - WALFileSystem

  public func open(_ path: String, create: Bool) throws(SystemError) -> Int32 {
    try locked { (state) throws(SystemError) in
      if state.live[path] == nil, create {
        try state.spend()
        state.nextFile += 1
        state.files[state.nextFile] = File()
        state.live[path] = state.nextFile
      }
      return try state.handle(path)
    }
  }

  public func openForReading(_ path: String) throws(SystemError) -> Int32 {
    try locked { (state) throws(SystemError) in try state.handle(path) }
  }

  public func openDirect(_ path: String) -> Int32? { try? openForReading(path) }

  public func close(_ file: Int32) {
    state.withLock { state in
      guard let number = state.handles.removeValue(forKey: file) else { return }
      if state.files[number]?.lockHolder == file { state.files[number]?.lockHolder = nil }
    }
  }

  public func read(
    _ file: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    let bytes = try locked { (state) throws(SystemError) in
      state.files[try state.number(file)]?.live ?? []
    }
    let count = max(0, min(buffer.count, bytes.count - offset))
    buffer.copyBytes(from: bytes[min(offset, bytes.count)...].prefix(count))
    return count
  }

  public func write(
    _ file: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    let bytes = Bytes(bytes)
    return try locked { (state) throws(SystemError) in
      let number = try state.number(file)
      let size = state.files[number]?.live.count ?? 0
      if state.isFull, offset + bytes.count > size { throw SystemError(code: ENOSPC) }
      // A write may stop anywhere; the power may fail in its midst.
      var count = bytes.count
      if Int.random(in: 0..<20, using: &state.random) == 0 {
        count = Int.random(in: 1...bytes.count, using: &state.random)
      }
      try state.spend()
      state.write(number, bytes[..<count], at: offset)
      return count
    }
  }

  public func sync(_ file: Int32) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      let number = try state.number(file)
      try state.spend()
      state.syncs += 1
      let live = state.files[number]?.live ?? []
      state.files[number]?.durable = live
    }
  }

  public func truncate(_ file: Int32, to count: Int) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      let number = try state.number(file)
      try state.spend()
      let size = state.files[number]?.live.count ?? 0
      state.files[number]?.live.removeLast(max(0, size - count))
    }
  }

  public func size(_ file: Int32) throws(SystemError) -> Int {
    try locked { (state) throws(SystemError) in
      state.files[try state.number(file)]?.live.count ?? 0
    }
  }

  public func lock(_ file: Int32) throws(SystemError) -> Bool {
    try locked { (state) throws(SystemError) in
      let number = try state.number(file)
      if let holder = state.files[number]?.lockHolder { return holder == file }
      state.files[number]?.lockHolder = file
      return true
    }
  }

  public func exists(_ path: String) -> Bool {
    state.withLock { $0.live[path] != nil || $0.directories.contains(path) }
  }

  public func list(_ directory: String) throws(SystemError) -> [String] {
    try locked { (state) throws(SystemError) in
      guard state.directories.contains(directory) else { throw SystemError(code: ENOENT) }
      return state.live.keys.sorted().compactMap { Self.name(of: $0, in: directory) }
    }
  }

  public func makeDirectory(_ path: String) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      try state.spend()
      state.directories.insert(path)
    }
  }

  public func rename(_ from: String, to: String) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      try state.spend()
      if state.directories.contains(from) {
        state.directories.remove(from)
        state.directories.insert(to)
        // Whoever renames a directory syncs its parent: taken as durable at once.
        for path in state.live.keys.sorted() {
          guard let name = Self.name(of: path, in: from) else { continue }
          let file = state.live.removeValue(forKey: path)
          let durable = state.durable.removeValue(forKey: path)
          state.live[to + "/" + name] = file
          state.durable[to + "/" + name] = durable
        }
        return
      }
      guard let number = state.live.removeValue(forKey: from) else {
        throw SystemError(code: ENOENT)
      }
      state.live[to] = number
    }
  }

  public func remove(_ path: String) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      try state.spend()
      if state.directories.remove(path) != nil { return }
      guard state.live.removeValue(forKey: path) != nil else { throw SystemError(code: ENOENT) }
    }
  }

  public func syncDirectory(_ path: String) throws(SystemError) {
    try locked { (state) throws(SystemError) in
      try state.spend()
      for known in Set(state.live.keys).union(state.durable.keys)
      where Self.name(of: known, in: path) != nil {
        let file = state.live[known]
        state.durable[known] = file
      }
    }
  }

  // MARK: - Inside

  private static func name(of path: String, in directory: String) -> String? {
    guard path.hasPrefix(directory + "/") else { return nil }
    let name = path.dropFirst(directory.count + 1)
    return name.contains("/") ? nil : String(name)
  }

  private func locked<Value: Sendable>(
    _ body: (inout State) throws(SystemError) -> Value
  ) throws(SystemError) -> Value {
    let result = state.withLock { state -> Result<Value, SystemError> in
      do throws(SystemError) { return .success(try body(&state)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}

extension SimulatedFileSystem.State {
  /// A call that changes the disk: it may be the one that fails.
  fileprivate mutating func spend() throws(SystemError) {
    if let left = callsLeft {
      guard left > 0 else { throw SystemError(code: EIO) }
      callsLeft = left - 1
    }
    if let code = failsNext {
      failsNext = nil
      throw SystemError(code: code)
    }
  }

  fileprivate func number(_ handle: Int32) throws(SystemError) -> Int {
    guard let number = handles[handle] else { throw SystemError(code: EBADF) }
    return number
  }

  fileprivate mutating func handle(_ path: String) throws(SystemError) -> Int32 {
    guard let number = live[path] else { throw SystemError(code: ENOENT) }
    nextHandle += 1
    handles[nextHandle] = number
    return nextHandle
  }

  fileprivate mutating func write(_ number: Int, _ bytes: ArraySlice<UInt8>, at offset: Int) {
    guard var file = files.removeValue(forKey: number) else { return }
    let end = offset + bytes.count
    if file.live.count < end {
      file.live += Bytes(repeating: 0, count: end - file.live.count)
    }
    file.live.replaceSubrange(offset..<end, with: bytes)
    files[number] = file
  }

  /// Names that were not synced may be there or not.
  fileprivate mutating func loseNames() {
    for path in Set(live.keys).union(durable.keys).sorted() where live[path] != durable[path] {
      if Bool.random(using: &random) {
        let file = live[path]
        durable[path] = file
      } else {
        let file = durable[path]
        live[path] = file
      }
    }
  }

  /// Of what was not synced any subset of sectors is there.
  fileprivate mutating func tear(_ number: Int) {
    guard var file = files.removeValue(forKey: number) else { return }
    var image = file.durable
    if file.live.count > image.count, Bool.random(using: &random) {
      image += Bytes(repeating: 0, count: file.live.count - image.count)
    }
    let sector = SimulatedFileSystem.sectorBytes
    for start in stride(from: 0, to: min(image.count, file.live.count), by: sector) {
      let range = start..<min(start + sector, image.count, file.live.count)
      if image[range] != file.live[range], Bool.random(using: &random) {
        image.replaceSubrange(range, with: file.live[range])
      }
    }
    file.live = image
    file.durable = image
    files[number] = file
  }
}
