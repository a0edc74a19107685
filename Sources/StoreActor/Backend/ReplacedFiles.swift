import Glibc

/// Files whose place another one has taken. Their names are gone; what they take on the disk is given
/// back bit by bit once the last reader has moved on.
///
/// Left to the kernel, a large file is freed at once, by whoever lets go of it last: a thread that
/// should serve requests would do it, and syncs of other files would wait for the file system's journal.
public struct ReplacedFiles {
  public enum Progress: Equatable, Sendable {
    case done
    /// There is more to give back.
    case goesOn
    /// Somebody still reads one of the files.
    case waitsForReaders
  }

  private var environments: [Environment] = []
  /// A file that nobody reads any more.
  private var shrinking: FileToShrink?

  /// Keeps the file until it can be given back.
  mutating func add(_ environment: Environment) { environments.append(environment) }

  mutating func reclaim(maxBytes: Int) -> Progress {
    if shrinking == nil, !environments.isEmpty {
      guard let position = firstUnread() else { return .waitsForReaders }
      let file = environments[position].duplicateDescriptor().map { FileToShrink($0) }
      // Closes it, and takes the pages out of this process's memory.
      environments.remove(at: position)
      shrinking = file
    }
    if let file = shrinking, !file.shrink(by: maxBytes) { return .goesOn }
    shrinking = nil
    return environments.isEmpty ? .done : .goesOn
  }

  private mutating func firstUnread() -> Int? {
    environments.indices.first { isKnownUniquelyReferenced(&environments[$0]) }
  }
}

/// A file without a name, closed when its owner goes.
private final class FileToShrink: Sendable {
  private let descriptor: Int32

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Cuts off its end. True when nothing is left to cut, or when it cannot be: closing it frees the
  /// rest.
  func shrink(by bytes: Int) -> Bool {
    var status = stat()
    guard fstat(descriptor, &status) == 0, Int(status.st_size) > bytes else { return true }
    return ftruncate(descriptor, status.st_size - off_t(bytes)) != 0
  }
}
