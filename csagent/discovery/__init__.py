"""Where could CloudStack's data be? Leases, NICs, default routes, drives, DMI. Contacts nobody."""
