/// Why a text is not YAML.
package struct YAMLError: Error, Equatable {
  package enum Kind: Equatable, Sendable {
    /// Not UTF-8, or a character that YAML does not allow.
    case characters
    /// Not the form of YAML.
    case form
    /// A key that its mapping has already.
    case duplicateKey(String)
  }

  package let kind: Kind
  /// In libyaml's words.
  package let problem: String
  /// From 1; 0 if it has no place.
  package let line: Int
  /// What was being read when the problem was met, and its line.
  package let context: Context?

  package struct Context: Equatable, Sendable {
    package let text: String
    package let line: Int
  }
}
