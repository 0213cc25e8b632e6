"""What the cluster holds, as tables, trees and pages."""
