import Base

/// Makes inputs out of good ones: what is nearly right gets further than noise.
struct Mutator {
  var random: SeededGenerator
  /// The longest input made.
  static let bytesMax = 1 << 16

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  mutating func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

  /// One to a dozen changes of a sample, now and then spliced with another.
  mutating func mutate(_ corpus: [Bytes]) -> Bytes {
    var bytes = corpus[draw(0...corpus.count - 1)]
    if draw(0...7) == 0 {
      let other = corpus[draw(0...corpus.count - 1)]
      bytes = Bytes(bytes.prefix(draw(0...bytes.count)) + other.suffix(draw(0...other.count)))
    }
    let changes = draw(0...3) == 0 ? draw(1...12) : 1
    for _ in 0..<changes { change(&bytes) }
    return Bytes(bytes.prefix(Self.bytesMax))
  }

  private mutating func change(_ bytes: inout Bytes) {
    guard !bytes.isEmpty else {
      bytes = (0..<draw(1...64)).map { _ in UInt8(truncatingIfNeeded: draw(0...255)) }
      return
    }
    let at = draw(0...bytes.count - 1)
    switch draw(0...8) {
    case 0: bytes[at] ^= 1 << draw(0...7)
    case 1: bytes[at] = UInt8(draw(0...255))
    case 2: bytes[at] = [0, 1, 0x7f, 0x80, 0xff][draw(0...4)]
    case 3: bytes.removeSubrange(at..<min(bytes.count, at + draw(1...16)))
    case 4:
      let made = (0..<draw(1...16)).map { _ in UInt8(truncatingIfNeeded: draw(0...255)) }
      bytes.insert(contentsOf: made, at: at)
    case 5: bytes.removeLast(draw(0...bytes.count))
    case 6:
      let part = bytes[at..<min(bytes.count, at + draw(1...64))]
      bytes.insert(contentsOf: part, at: draw(0...bytes.count))
    case 7: overwriteNumber(&bytes, at)
    default:
      let count = draw(1...min(64, bytes.count))
      for position in at..<min(bytes.count, at + count) { bytes[position] = 0 }
    }
  }

  /// A length or a count that is far from what it should be.
  private mutating func overwriteNumber(_ bytes: inout Bytes, _ at: Int) {
    let numbers: [UInt64] = [
      0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 62,
      UInt64(Int64.max), 1 << 63, .max,
    ]
    var number = numbers[draw(0...numbers.count - 1)]
    if draw(0...1) == 0 { number = number.byteSwapped }
    let width = [1, 2, 4, 8][draw(0...3)]
    for offset in 0..<width where at + offset < bytes.count {
      bytes[at + offset] = UInt8(truncatingIfNeeded: number >> (8 * offset))
    }
  }
}
