public import Base
import CCrypt
import Glibc

/// Password hashes as etcd stores them: bcrypt's text form, `$2a$`, cost, salt and hash.
///
/// libxcrypt computes them. It is asked for `$2b$`, which is what Go calls `$2a$`: for that name
/// libxcrypt guards against a flaw of other old programs, and differs for rare passwords.
public enum Bcrypt {
  public static let costs = 4...31
  public static let defaultCost = 10
  public static let saltByteCount = 16
  /// Longer ones are refused, since bcrypt would look at no more of them.
  public static let passwordBytesMax = 72

  /// Takes 50 ms and more: not on the loop, nor on the store's thread.
  /// - Parameter salt: 16 bytes that no other hash has.
  /// - Returns: nil for a password that cannot be hashed: see ``isHashable(_:)``.
  public static func hash(_ password: String, cost: Int, salt: Bytes) -> Bytes? {
    precondition(costs.contains(cost) && salt.count == saltByteCount)
    guard isHashable(password) else { return nil }
    var setting = [CChar](repeating: 0, count: 64)
    let made = salt.withUnsafeBytes { salt in
      crypt_gensalt_rn(
        "$2b$", UInt(cost), salt.baseAddress?.assumingMemoryBound(to: CChar.self),
        Int32(salt.count), &setting, Int32(setting.count))
    }
    guard made != nil else { return nil }
    return compute(password, setting).map(withGoName)
  }

  /// Whether `password` has this hash; false for a hash that is none. As slow as ``hash``.
  public static func verify(_ password: String, _ hash: Bytes) -> Bool {
    guard hash.count == 60, hash[0] == UInt8(ascii: "$"), hash[1] == UInt8(ascii: "2"),
      hash[3] == UInt8(ascii: "$"), !password.utf8.contains(0)
    else { return false }
    var setting = hash.map { CChar(bitPattern: $0) } + [0]
    setting[2] = CChar(bitPattern: UInt8(ascii: "b"))
    guard let computed = compute(password, setting), computed.count == hash.count else {
      return false
    }
    // No early end: how long it takes must not tell how much was right.
    var difference: UInt8 = 0
    for position in 3..<hash.count { difference |= computed[position] ^ hash[position] }
    return difference == 0
  }

  /// Zero bytes end a password for libxcrypt, and more than 72 bytes are beyond bcrypt itself.
  public static func isHashable(_ password: String) -> Bool {
    !password.utf8.contains(0) && password.utf8.count <= passwordBytesMax
  }

  private static func compute(_ password: String, _ setting: [CChar]) -> Bytes? {
    let count = Int(ccrypt_memory_size())
    let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    defer {
      // The password must not stay behind in freed memory.
      explicit_bzero(memory, count)
      memory.deallocate()
    }
    guard let text = crypt_rn(password, setting, memory, Int32(count)) else { return nil }
    let bytes = UnsafeRawBufferPointer(start: text, count: strlen(text))
    return bytes.count == 60 ? Bytes(bytes) : nil
  }

  private static func withGoName(_ hash: Bytes) -> Bytes {
    var hash = hash
    hash[2] = UInt8(ascii: "a")
    return hash
  }
}
