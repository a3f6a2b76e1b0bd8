"""What tests steer: settings, faults, the journal, the administration routes."""
