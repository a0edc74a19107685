/// Why a text is not YAML.
public struct YAMLError: Error, Equatable {
  public enum Kind: Equatable, Sendable {
    /// Not UTF-8, or a character that YAML does not allow.
    case characters
    /// Not the form of YAML.
    case form
    /// A key that its mapping has already.
    case duplicateKey(String)
  }

  public let kind: Kind
  /// In libyaml's words.
  public let problem: String
  /// From 1; 0 if it has no place.
  public let line: Int
  /// What was being read when the problem was met, and its line.
  public let context: Context?

  public struct Context: Equatable, Sendable {
    public let text: String
    public let line: Int
  }
}
