/// The page `docs/flags.md`, made from the table so that it cannot be wrong.
public enum FlagReference {
  public static var markdown: String {
    var text = introduction
    for section in FlagSpec.Section.allCases {
      text += "\n## \(section.rawValue)\n\n"
      text += "| Flag | Default | What Apus does with it | Meaning |\n| --- | --- | --- | --- |\n"
      for spec in FlagTable.all where spec.section == section { text += row(spec) }
    }
    return text + gates + retired + leftovers
  }

  private static let introduction = """
    # Flags

    Every flag of etcd 3.7, and what Apus does with it. This page is made from the table that the program
    itself reads (`Sources/Member/Configuration`); a test fails when they differ, and
    `APUS_REWRITE_DOCS=1 scripts/test unit --filter FlagReference` writes it anew.

    Each flag is also the environment variable `ETCD_` + its name in capitals, `-` as `_`
    (`--data-dir`: `ETCD_DATA_DIR`), and a key of the same name in the `--config-file`; there, the socket and TLS
    flags stand in groups, as in etcd. A file replaces flags and environment. A flag that is given together
    with its variable is an error.

    - *works*: as in etcd.
    - *ignored*: checked, then ignored, which is logged once if another value than the default is given.
    - *refused*: the member does not start with another value than the default, and says why.
    - *not yet*: refused as well, until it is there.

    """

  private static func row(_ spec: FlagSpec) -> String {
    let shown = spec.defaultText.isEmpty ? "" : "`\(spec.defaultText)`"
    return "| `--\(spec.name)` | \(shown) | \(note(spec.support)) | \(spec.help) |\n"
  }

  private static func note(_ support: FlagSpec.Support) -> String {
    switch support {
    case .supported: "works"
    case .accepted: "ignored"
    case .refused(let advice): "refused: \(advice)"
    case .unfinished: "not yet"
    }
  }

  private static var gates: String {
    var text = "\n## Feature gates (`--feature-gates`)\n\n"
    text += "| Gate | Default | What Apus does with it |\n| --- | --- | --- |\n"
    for gate in FeatureGates.Gate.allCases {
      text += "| `\(gate.rawValue)` | \(gate.isOnByDefault) | \(note(gate.support)) |\n"
    }
    return text
  }

  private static var retired: String {
    var text =
      "\n## Spellings of earlier releases\n\nUnderstood with a warning, where etcd 3.7 refuses to start.\n\n"
    text += "| Flag | What Apus does with it |\n| --- | --- |\n"
    for flag in FlagTable.retired { text += "| `--\(flag.name)` | \(note(flag.meaning)) |\n" }
    return text
  }

  private static func note(_ meaning: RetiredFlag.Meaning) -> String {
    switch meaning {
    case .renamed(let name): "the same as `--\(name)`"
    case .gate(let gate): "the same as `--feature-gates=\(gate)=...`"
    case .ignored: "ignored"
    case .refusedUnless(let harmless, _, let reason):
      "ignored if \(harmless.map { $0.isEmpty ? "empty" : "`\($0)`" }.joined(separator: ", ")); "
        + "else refused: \(reason)"
    case .debugLevel: "the same as `--log-level=debug`"
    }
  }

  private static var leftovers: String {
    let names = FlagTable.leftovers.sorted().map { "`-\($0)`" }.joined(separator: ", ")
    return "\nSwallowed without a word, as by etcd itself: \(names).\n"
  }
}
