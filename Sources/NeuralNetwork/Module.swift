/// A part of a model: it owns parameters and other modules, found through its stored properties.
///
/// Any structure or class of layers is a module. Names come from the properties, or from `name` where it is not nil; an
/// empty name adds no level to the path.
public protocol Module {
  /// The level this module adds to the names of its parameters; nil for the name of the property that holds it.
  var name: String? { get }
}

extension Module {
  /// The name of the property that holds the module.
  public var name: String? { nil }

  /// All parameters with their paths, in the order of the properties. One that is held in several places is there once,
  /// under the first of its paths.
  public func namedParameters() -> [(name: String, parameter: Parameter)] {
    var found: [(String, Parameter)] = []
    collect(self, path: name.flatMap { $0.isEmpty ? nil : $0 } ?? "", into: &found)
    var seen: Set<ObjectIdentifier> = []
    return found.filter { seen.insert(ObjectIdentifier($0.1)).inserted }
  }

  /// Elements of all parameters, moving statistics included, as Keras counts them.
  public var parameterCount: Int { namedParameters().reduce(0) { $0 + $1.parameter.shape.count } }

  /// Elements of the parameters that training changes.
  public var trainableParameterCount: Int {
    namedParameters().reduce(0) { $0 + ($1.parameter.isTrainable ? $1.parameter.shape.count : 0) }
  }
}

private func collect(_ value: Any, path: String, into found: inout [(String, Parameter)]) {
  collect(Mirror(reflecting: value), path: path, into: &found)
}

/// A class has its superclass's properties first.
private func collect(_ mirror: Mirror, path: String, into found: inout [(String, Parameter)]) {
  if let superclass = mirror.superclassMirror { collect(superclass, path: path, into: &found) }
  for child in mirror.children {
    visit(child.value, label: child.label ?? "", path: path, into: &found)
  }
}

private func visit(_ value: Any, label: String, path: String, into found: inout [(String, Parameter)]) {
  func joined(_ level: String) -> String {
    path.isEmpty ? level : level.isEmpty ? path : path + "/" + level
  }
  switch value {
  case let parameter as Parameter:
    found.append((joined(parameter.label ?? label), parameter))
  case let module as any Module:
    collect(module, path: joined(module.name ?? label), into: &found)
  default:
    let mirror = Mirror(reflecting: value)
    switch mirror.displayStyle {
    case .collection:
      for (index, element) in mirror.children.enumerated() {
        visit(element.value, label: "\(label)_\(index)", path: path, into: &found)
      }
    case .optional:
      guard let wrapped = mirror.children.first else { return }
      visit(wrapped.value, label: label, path: path, into: &found)
    default: return
    }
  }
}
