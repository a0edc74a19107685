import Base
import FoundationEssentials

extension Bytes {
  /// The same as the general initialiser, which goes through an iterator, in one copy.
  init(_ data: Data) { self = data.withUnsafeBytes { Bytes($0) } }
}
